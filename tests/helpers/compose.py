"""The shipped configuration, composed and planned as the command does it, without Hydra's command line."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from trpo_cli.cli.messages import explain
from trpo_cli.config.plan import plan as make_plan
from trpo_cli.config.schema import conf_dir, register_schema
from trpo_cli.errors import ConfigError
from trpo_cli.parallel.group import Group
from trpo_cli.training.run import Plan, execute

CONF = conf_dir()


def options(group: str) -> list[str]:
    """Every option of a group, nested ones as ``folder/name``."""
    return sorted(p.relative_to(CONF / group).with_suffix("").as_posix() for p in (CONF / group).rglob("*.yaml"))


def composed(*words: str, conf: Path = CONF) -> tuple[DictConfig, dict[str, str]]:
    """The configuration that these overrides compose, and the option chosen for each group."""
    register_schema()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        cfg = compose("train", list(words), return_hydra_config=True)
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


def executed(plan: Plan) -> Path:
    """The run directory of a plan that was carried out in this process."""
    assert execute(plan, Group(), lambda: 0) == 0
    return plan.directory


def planned(*words: str, conf: Path = CONF) -> Plan:
    """The run that these overrides describe; ConfigError in one sentence where they describe none, as the command."""
    try:
        cfg, choices = composed(*words, conf=conf)
    except Exception as error:
        raise ConfigError(explain(error, conf, words)) from error
    return make_plan(cfg, choices)
