"""From a composed configuration to a checked plan of a run: every component built, every value read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from trpo_cli.config.build import build
from trpo_cli.config.schema import RESULT_KEYS, require_known_root, resolved
from trpo_cli.config.unused import require_read
from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.base import Search
from trpo_cli.parallel.devices import usable
from trpo_cli.sims.base import Limited, Simulator, Task
from trpo_cli.training.loop import Schedule
from trpo_cli.training.run import Plan

GROUPS = ("env", "policy", "sampler", "optimizer")  # one component each


Choices = Mapping[str, str]  # group: the option chosen for it


def plan(cfg: DictConfig, choices: Choices, overrides: Sequence[str] = ()) -> Plan:
    """Build and check every component of a composed configuration; ConfigError where one cannot work.

    overrides: the words of the command line, to refuse one that nothing would read.
    """
    require_known_root(cfg)
    for group in GROUPS:
        if group not in choices:  # a list of options, which Hydra would lay over one another
            raise ConfigError(
                f"{group}=… takes one option, not a list; add -m and drop the brackets to sweep over several"
            )
    sim = build(cfg.env, "env")
    _complete(cfg, sim)
    config = resolved(cfg)
    _require(config["seed"] >= 0, "seed", config["seed"], ">= 0")
    for key in ("iterations", "checkpoint_every"):
        _require(config[key] >= 1, key, config[key], "at least 1")
    _require(0 < config["path_scale"] < float("inf"), "path_scale", config["path_scale"], "a finite number > 0")
    name = config["name"]
    _require(bool(config["outputs"]), "outputs", config["outputs"], "a folder")
    _require(bool(name) and not name.startswith((".", "/")) and ".." not in name, "name", name, "a folder's name")
    network, sampler, optimizer = (build(cfg[group], group) for group in GROUPS[1:])
    sampler.check(sim)
    searches = isinstance(optimizer, Search)
    if (searches or optimizer.needs_whole_paths) and not sampler.whole_paths:
        raise ConfigError(
            f"optimizer={choices['optimizer']} as configured works on whole episodes and takes no "
            f"sampler={choices['sampler']}; use sampler=single"
        )
    require_read(cfg, choices, overrides, (sim, network, sampler), searches)
    policy = network.build(sim.obs_shape, sim.action_space)
    if searches:
        optimizer.start(np.zeros(policy.n_parameters))  # refuses a policy that is too large for it
    return Plan(
        directory=run_directory(config, choices),
        command=" ".join(["trpo-train", *overrides]),
        config=config,
        identity={key: _finite(config[key]) for key in RESULT_KEYS},
        options={group: choices[group] for group in GROUPS},
        task=Task(sim, config["task"]["step_limit"]),
        policy=policy,
        sampler=sampler,
        optimizer=optimizer,
        device=usable(config["device"]),
        seed=config["seed"],
        schedule=Schedule(config["iterations"], config["checkpoint_every"]),
    )


def run_directory(config: Mapping[str, Any], choices: Choices) -> Path:
    """Where the run of a configuration is."""
    method = f"{choices['optimizer']}-{choices['sampler']}".replace("/", "_")
    return Path(config["outputs"]) / config["name"] / choices["env"] / method / f"seed{config['seed']}"


def _complete(cfg: DictConfig, sim: Simulator) -> None:
    """Take the step limit from the simulator where the task leaves it open."""
    if OmegaConf.is_missing(cfg.task, "step_limit"):
        limit = sim.step_limit if isinstance(sim, Limited) else None
        if limit is None:
            raise ConfigError(
                "task.step_limit has no value and the environment has no limit of its own; set task.step_limit=…"
            )
        cfg.task.step_limit = limit


def _require(holds: bool, field: str, value: object, what: str) -> None:
    if not holds:
        raise ConfigError(f"{field}={value} must be {what}")


def _finite(tree: Any) -> Any:
    """The tree with its infinite numbers as strings, which JSON can hold."""
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return str(tree) if isinstance(tree, float) and not np.isfinite(tree) else tree
