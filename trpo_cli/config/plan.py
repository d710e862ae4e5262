"""From a composed configuration to a checked plan of a run: every component built, every value used."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from trpo_cli.config.build import build
from trpo_cli.config.loggers import build_loggers
from trpo_cli.config.members import require_members
from trpo_cli.config.scale import scale_numbers
from trpo_cli.config.schema import GROUPS, plain_values, require_known_root
from trpo_cli.config.unused import require_used, unused_fields
from trpo_cli.errors import ConfigError, require
from trpo_cli.optimizers.base import Optimizer, Search
from trpo_cli.parallel.devices import require_usable
from trpo_cli.parallel.processes import n_workers
from trpo_cli.policies.base import Policy, PolicyConfig
from trpo_cli.runs.checkpoint import CHECKPOINT, PREVIOUS
from trpo_cli.runs.directory import folder_of_a_sweep
from trpo_cli.runs.files import finite
from trpo_cli.runs.load import CHECKPOINTS
from trpo_cli.samplers.base import Sampler
from trpo_cli.sims.base import Limited, Simulator, Task
from trpo_cli.training.evaluation import GreedyEvaluation
from trpo_cli.training.loop import Schedule
from trpo_cli.training.run import Plan
from trpo_cli.training.start import DECIDED, start_from

RESOURCES = ("env.max_lanes",)  # decide what a run takes of the machine, and not its rows
Choices = Mapping[str, str]  # group: the option chosen for it


def plan(
    cfg: DictConfig,
    choices: Choices,
    overrides: Sequence[str] = (),
    flags: Sequence[str] = (),
    directory: Path | None = None,
) -> Plan:
    """Build and check every component of a composed configuration; ConfigError if one cannot work.

    overrides: the command line's; one without effect is refused. flags: what stands before them in the command.
    directory: of the run that is continued; None: the one that the configuration names, see `run_directory`
    """
    require_known_root(cfg)
    loggers = build_loggers(cfg.logger)
    sim = build(cfg.env, "env")
    require_members(sim, Simulator, "env: a simulator")
    step_limit = _step_limit(cfg, sim)
    config = plain_values(cfg)
    _require_root_values(config)
    network = build(cfg.policy, "policy")
    _require_steps_of_streams(config["sampler"])
    sampler, numbers = scale_numbers(build(cfg.sampler, "sampler"), config["path_scale"])
    optimizer, more_numbers = scale_numbers(build(cfg.optimizer, "optimizer"), config["path_scale"])
    require_members(network, PolicyConfig, "policy: its settings")
    require_members(sampler, Sampler, "sampler: it")
    searches = isinstance(optimizer, Search) or not callable(optimizer)
    require_members(
        optimizer, Search if searches else Optimizer, f"optimizer: {'a search' if searches else 'an update'}"
    )
    critic = build(cfg.critic, "critic") if cfg.critic and not searches else None
    config = plain_values(cfg)  # again: 1e4 has become a whole number where it has to be one
    _require_fitting_sampler(sampler, optimizer, choices)
    if not searches:
        sampler.check(sim, has_critic=critic is not None)
    policy = network.build(sim.obs_shape, sim.action_space)
    parts = {"env": [sim], "policy": [network, policy], "sampler": [sampler], "optimizer": [optimizer]}
    require_members(policy, Policy, "policy: it")
    reasons = unused_fields(parts | {"critic": [critic]})
    if searches:
        optimizer.start(np.zeros(policy.n_parameters))  # refuses a policy that is too large for it
        reasons |= _unused_by_a_search(config, choices)
    if not {**numbers, **more_numbers} or (searches and not more_numbers):
        reasons["path_scale"] = "no number of the sampler or the optimizer is multiplied by it"
    reasons |= _unused_beside_others(config, choices, critic is not None, searches)
    require_used(overrides, reasons)
    identity = _identity(config, {"sampler": numbers, "optimizer": more_numbers}, reasons)
    if directory is None:
        config["name"], directory = _name_and_directory(cfg, choices, identity)
    begins = (
        config["init_from"] and not searches and not any((directory / name).exists() for name in (CHECKPOINT, PREVIOUS))
    )
    every, episodes = config["eval"]["every"], config["eval"]["episodes"]
    task, value = Task(sim, step_limit), None if critic is None else critic.build(sim.obs_shape)
    return Plan(
        directory=directory,
        command=shlex.join(["trpo-train", *flags, *overrides]),
        config=config,
        identity=identity,
        options={group: choices[group] for group in GROUPS} | ({} if critic is not None else {"critic": "none"}),
        task=task,
        policy=policy,
        sampler=sampler,
        optimizer=optimizer,
        critic=value,
        evaluate=None if every is None else GreedyEvaluation(task, policy, config["seed"], every, episodes),
        average_over=config["average_over"],
        start=start_from(Path(config["init_from"]), config["init_checkpoint"], config, sim) if begins else None,
        loggers=loggers,
        device=require_usable(config["device"]),
        seed=config["seed"],
        schedule=Schedule(
            *(config[key] for key in ("iterations", "checkpoint_every", "total_steps", "max_refused", "stop_at"))
        ),
    )


def _require_fitting_sampler(sampler: Sampler, optimizer: Optimizer | Search, choices: Choices) -> None:
    """Refuse a sampler without whole episodes if the optimizer needs them; a search runs them without a sampler."""
    streams = choices["sampler"] == "single" and not sampler.whole_paths
    if isinstance(optimizer, Search):
        needing = "" if streams else f"optimizer={choices['optimizer']}"
    else:
        needing = optimizer.needs_whole_paths
    if needing and not sampler.whole_paths:
        instead = "add sampler.streams=null" if streams else "use sampler=single"
        raise ConfigError(f"{needing} needs whole episodes and cannot use sampler={choices['sampler']}; {instead}")


def _require_steps_of_streams(sampler: Mapping[str, Any]) -> None:
    """Refuse streams without steps: an experiment may set the one to null, and an env the number of the other."""
    streams = sampler.get("streams")
    if type(streams) is int and sampler.get("steps_per_iteration", 0) is None:
        raise ConfigError(
            f"sampler.streams={streams} needs sampler.steps_per_iteration=…, which is null; set it, or add "
            "sampler.streams=null for whole episodes"
        )


def plan_with_workers(
    cfg: DictConfig,
    choices: Choices,
    cores: int,
    overrides: Sequence[str] = (),
    flags: Sequence[str] = (),
    directory: Path | None = None,
) -> tuple[int, Plan]:
    """The number of workers on so many cores, and the plan; ConfigError if one cannot work. See `plan`."""
    made = plan(cfg, choices, overrides, flags, directory)
    n = n_workers(cfg.workers, min(cores, made.max_workers or cores))
    require_lanes(made, n)
    return n, made


def require_lanes(plan: Plan, n_workers: int) -> None:
    """Refuse streams that need more environments in a worker than may be open there."""
    streams, most = plan.config["sampler"].get("streams"), plan.task.sim.max_lanes
    if streams and not isinstance(plan.optimizer, Search) and -(-streams // n_workers) > most:
        raise ConfigError(
            f"env.max_lanes={most} is too few for sampler.streams={streams} in workers={n_workers}, where a worker has "
            f"{-(-streams // n_workers)} of them; use workers={-(-streams // most)}, or sampler.streams="
            f"{most * n_workers}"
        )


def _name_and_directory(cfg: DictConfig, choices: Choices, identity: Mapping[str, Any]) -> tuple[str, Path]:
    """``name`` and the run directory: the configured ones, or those of the job of a sweep that has begun this run."""
    directory = run_directory(cfg, choices)
    if (folder := folder_of_a_sweep(directory, Path(cfg.outputs) / cfg.name, identity)) is None:
        return cfg.name, directory
    name = f"{cfg.name}/{folder}"
    return name, run_directory(OmegaConf.merge(cfg, {"name": name}), choices)


def _unused_beside_others(
    config: Mapping[str, Any], choices: Choices, has_critic: bool, searches: bool
) -> dict[str, str]:
    """Keys that other keys leave without effect, each with the reason."""
    reasons = {}
    if has_critic:
        reasons["sampler.baseline"] = f"critic={choices['critic']} is the baseline"
    if config["init_from"] and not searches:
        reasons |= {f"policy.{key}": f"init_from={config['init_from']} decides it" for key in DECIDED}
    if config["init_from"] is None:
        reasons["init_checkpoint"] = "init_from is not set"
    if config["eval"]["every"] is None:
        reasons["eval.episodes"] = "eval.every is not set"
    return reasons


def _unused_by_a_search(config: Mapping[str, Any], choices: Choices) -> dict[str, str]:
    """Keys that a search does not read, each with the reason."""
    search = f"optimizer={choices['optimizer']} runs one episode per candidate and"
    reasons = {"sampler.": f"{search} needs no sampler", "device": f"{search} computes nothing else"}
    reasons["critic."] = f"{search} needs no value function"
    reasons["max_refused"] = f"{search} refuses no step"
    reasons["average_over"] = f"{search} has a mean of its own"
    reasons["init_from"] = reasons["init_checkpoint"] = f"{search} begins with a population of its own"
    if config["critic"]:  # critic=none may be said
        reasons["critic"] = reasons["critic."]
    return reasons


def run_directory(cfg: Any, choices: Choices) -> Path:
    """The run directory of a configuration."""
    with_critic = cfg.critic and not isinstance(build(cfg.optimizer, "optimizer"), Search)
    words = [choices["optimizer"], choices["sampler"], *([choices["critic"]] if with_critic else [])]
    method = "-".join(words).replace("/", "_")
    return Path(cfg.outputs) / cfg.name / choices["env"] / method / f"seed{cfg.seed}"


def _step_limit(cfg: DictConfig, sim: Simulator) -> int:
    """The run's only step limit. If ``cfg`` leaves it to the environment, it is written into ``cfg``."""
    if cfg.step_limit is None:
        cfg.step_limit = sim.step_limit if isinstance(sim, Limited) else None
    if cfg.step_limit is None:
        raise ConfigError("step_limit has no value and the environment has no limit of its own; set step_limit=…")
    if cfg.step_limit < 1:
        raise ConfigError(f"step_limit={cfg.step_limit} must be at least 1")
    return int(cfg.step_limit)


def _require_root_values(config: Mapping[str, Any]) -> None:
    require(config["seed"] >= 0, "seed", config["seed"], ">= 0")
    require(config["checkpoint_every"] >= 1, "checkpoint_every", config["checkpoint_every"], "at least 1")
    refused = config["max_refused"]
    require(refused is None or refused >= 1, "max_refused", refused, "at least 1, or null to go on in any case")
    for key in ("every", "episodes"):
        value = config["eval"][key]
        require(value is None or value >= 1, f"eval.{key}", value, "at least 1")
    average = config["average_over"]
    require(average is None or 0 < average <= 1, "average_over", average, "in (0, 1], or null for the last policy")
    source = config["init_checkpoint"]
    require(source in CHECKPOINTS, "init_checkpoint", source, f"one of {', '.join(CHECKPOINTS)}")
    stop_at = config["stop_at"]
    require(stop_at is None or abs(stop_at) < float("inf"), "stop_at", stop_at, "a finite number, or null")
    iterations, total = config["iterations"], config["total_steps"]
    require(total is None or total >= 1, "total_steps", total, "at least 1, or null for no budget")
    if iterations is not None:
        require(iterations >= 1, "iterations", iterations, "at least 1, or null for as many as total_steps allows")
    elif total is None:
        raise ConfigError("iterations=null needs total_steps=…: one of the two has to end the run")
    require(0 < config["path_scale"] < float("inf"), "path_scale", config["path_scale"], "a finite number > 0")
    name, outputs, device = config["name"], config["outputs"], config["device"]
    require(bool(outputs) and not outputs.startswith("~"), "outputs", outputs, "a folder, with $HOME instead of ~")
    written = not any("\ud800" <= letter <= "\udfff" for letter in name + outputs)  # bytes that are no text
    require(written, "name", ascii(name), "a word in the terminal's own encoding: set LC_ALL=C.UTF-8")
    plain = bool(name) and not name.startswith((".", "/", "~")) and ".." not in name
    require(plain, "name", name, "a folder's name")
    if device.startswith("gpu"):
        raise ConfigError(f"device={device} does not exist; did you mean device={device.replace('gpu', 'cuda')}?")


def _identity(
    config: Mapping[str, Any], scaled_numbers: Mapping[str, Mapping[str, int]], reasons: Mapping[str, str]
) -> dict[str, Any]:
    """What decides the rows of a run: the values that it uses, after scaling."""
    identity: dict[str, Any] = {key: config[key] for key in ("seed", "step_limit")}
    if config["init_from"] and "init_from" not in reasons:
        identity["init_from"] = config["init_from"]
        if config["init_checkpoint"] != "last":  # which a run of a version without the setting began with
            identity["init_checkpoint"] = config["init_checkpoint"]
    if config["average_over"] is not None and "average_over" not in reasons:
        identity["average_over"] = config["average_over"]
    for group in GROUPS:
        if f"{group}." in reasons or not config[group]:  # not used, or critic=none
            continue
        values = {key: value for key, value in config[group].items() if f"{group}.{key}" not in RESOURCES}
        values |= scaled_numbers.get(group, {})
        identity[group] = {key: finite(value) for key, value in values.items() if f"{group}.{key}" not in reasons}
    return identity
