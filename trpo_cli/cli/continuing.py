"""``continue=DIRECTORY``: go on with a run by the configuration in its directory, wherever that lies now."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from trpo_cli.cli.messages import explain
from trpo_cli.cli.words import CONTINUE as KEY
from trpo_cli.config.messages import unknown_key
from trpo_cli.config.plan import RESOURCES, plan_with_workers
from trpo_cli.config.schema import GROUPS, conf_dir, register_schema
from trpo_cli.errors import ConfigError
from trpo_cli.runs.files import DESCRIPTION, flat
from trpo_cli.runs.load import read_description_and_config
from trpo_cli.training.run import Plan

FIXED = {"seed", "step_limit", "name", "outputs", "path_scale", "init_from", "init_checkpoint"}
FIXED |= {"average_over", *GROUPS}


def plan_to_continue(run: str, words: Sequence[str], cores: int) -> tuple[int, Plan]:
    """The number of workers on so many cores, and the plan of the run in a directory with ``words`` laid over it.

    words: all words of the command. Raises ConfigError if there is no run, or if a word may not change in one.
    """
    if run.startswith("~"):
        raise ConfigError(f"{KEY}={run} must be a run directory, with $HOME instead of ~")
    info, config = read_description_and_config(Path(run), f"{KEY}={run}")
    if "options" not in info:
        raise ConfigError(
            f"{KEY}={run} was begun by an older version, whose {DESCRIPTION} does not tell the chosen options; "
            f"go on by its own command: {info.get('command')}"
        )
    options = {"critic": "none"} | info["options"]
    more = [word for word in words if word != f"{KEY}={run}"]
    cfg = _with(_filled(config, options), more)
    return plan_with_workers(cfg, options, cores, more, [f"{KEY}={run}"], Path(run))


def _filled(config: Mapping[str, Any], options: Mapping[str, str]) -> DictConfig:
    """The run's configuration; keys that came with later versions have the values that its options set now."""
    register_schema()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        try:
            now = compose("train", [f"{group}={option}" for group, option in options.items()])
        except HydraException:  # an option of --config-dir
            now = compose("train")
    for group in GROUPS:
        before = config.get(group)
        same = before and now[group] and before["_target_"] == now[group]["_target_"]
        now[group] = OmegaConf.merge(now[group], before) if same else before
    now.merge_with({key: value for key, value in config.items() if key not in GROUPS})
    return now


def _with(cfg: DictConfig, words: Sequence[str]) -> DictConfig:
    """The configuration with the words' values; ConfigError for a word that may not stand there."""
    resources = [key for key in RESOURCES if OmegaConf.select(cfg, key) is not None]
    may = [*flat({key: value for key, value in cfg.items() if key not in FIXED}), *resources]
    for word in words:
        if word.startswith("-"):
            raise ConfigError(f"{word} cannot stand beside {KEY}=, which goes on with one run by its own configuration")
        try:
            (override,) = OverridesParser.create().parse_overrides([word])
        except HydraException as error:
            raise ConfigError(explain(error, conf_dir(), words)) from error
        key = override.key_or_group
        if key.partition(".")[0] in FIXED and key not in resources:
            raise ConfigError(
                f"{key} cannot change when a run goes on; {KEY}= takes {', '.join(may)}; for another {key} start a "
                "new run, with another name="
            )
        if key not in may:
            raise ConfigError(unknown_key(key, may))
        if override.is_sweep_override():
            raise ConfigError(f"{key} has several values, and {KEY}= goes on with one run")
        OmegaConf.update(cfg, key, override.value())
    return cfg
