"""From a composed configuration to a run: builds and checks every part, then trains in this worker."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from trpo_cli.algorithms import Algorithm, PolicyUpdate, PopulationSearch, Row, State
from trpo_cli.config import RESULT_KEYS, build, require_known_root, resolved
from trpo_cli.convolutions import Conv
from trpo_cli.devices import exact_convolutions, model, usable
from trpo_cli.display import Display
from trpo_cli.errors import ConfigError
from trpo_cli.input_range import Network, input_map, mapped
from trpo_cli.optimizers.cem import Cem
from trpo_cli.optimizers.cma import Cma
from trpo_cli.optimizers.maximum_likelihood import RewardWeightedRegression
from trpo_cli.policies import Mlp
from trpo_cli.provenance import run_info
from trpo_cli.runlog import RunLog
from trpo_cli.samplers import Sampler, SinglePath
from trpo_cli.sims.base import Simulator
from trpo_cli.trainer import Progress, train
from trpo_cli.unread import require_read
from trpo_cli.world import World

GROUPS = ("env", "policy", "sampler", "optimizer")  # one component each
Choices = Mapping[str, str]  # group: the option chosen for it


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, checked; the same in every worker."""

    directory: Path
    command: str  # that composes this configuration
    config: dict[str, Any]
    options: dict[str, str]  # the one chosen for each group
    sim: Simulator
    network: Mlp | Conv
    policy: Network  # its inputs not yet mapped
    sampler: Sampler
    optimizer: Any  # an Optimizer or a Search
    device: str  # that updates are computed on
    seed: int
    iterations: int
    checkpoint_every: int

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the rows of the run; another one's directory is refused."""
        return {key: _finite(self.config[key]) for key in RESULT_KEYS}

    def algorithm(self, policy: Network) -> Algorithm:
        """The loop's body with this policy."""
        if isinstance(self.optimizer, Cem | Cma):
            return PopulationSearch(self.sim, policy, self.optimizer, self.config["task"]["step_limit"], self.seed)
        return PolicyUpdate(self.sim, policy, self.sampler, self.optimizer, self.seed)


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
    if isinstance(optimizer, Cem | Cma | RewardWeightedRegression) and not isinstance(sampler, SinglePath):
        raise ConfigError(
            f"optimizer={choices['optimizer']} scores whole episodes and takes no sampler={choices['sampler']}; "
            "use sampler=single"
        )
    if getattr(optimizer, "damping", "identity") == "paths" and not isinstance(sampler, SinglePath):
        raise ConfigError(
            f"optimizer.damping=paths is made of whole episodes and takes no sampler={choices['sampler']}; "
            "use sampler=single, or optimizer.damping=identity"
        )
    require_read(cfg, choices, overrides, (sim, network, sampler), isinstance(optimizer, Cem | Cma))
    policy = network.build(sim.obs_shape, sim.action_space)
    if isinstance(optimizer, Cem | Cma):
        optimizer.start(np.zeros(policy.n_parameters))  # refuses a policy that is too large for it
    return Plan(
        directory=run_directory(config, choices),
        command=" ".join(["trpo-train", *overrides]),
        config=config,
        options={group: choices[group] for group in GROUPS},
        sim=sim,
        network=network,
        policy=policy,
        sampler=sampler,
        optimizer=optimizer,
        device=usable(config["device"]),
        seed=config["seed"],
        iterations=config["iterations"],
        checkpoint_every=config["checkpoint_every"],
    )


def run_directory(config: Mapping[str, Any], choices: Choices) -> Path:
    """Where the run of a configuration is."""
    method = f"{choices['optimizer']}-{choices['sampler']}".replace("/", "_")
    return Path(config["outputs"]) / config["name"] / choices["env"] / method / f"seed{config['seed']}"


def _complete(cfg: DictConfig, sim: Simulator) -> None:
    """Take the step limit from the simulator where the task leaves it open."""
    if OmegaConf.is_missing(cfg.task, "step_limit"):
        limit = getattr(sim, "step_limit", None)
        if limit is None:
            raise ConfigError(
                "task.step_limit has no value and the environment has no limit of its own; set task.step_limit=…"
            )
        cfg.task.step_limit = limit


def _require(holds: bool, field: str, value: object, what: str) -> None:
    if not holds:
        raise ConfigError(f"{field}={value} must be {what}")


def execute(plan: Plan, world: World, asked: Callable[[], int]) -> int:
    """Train in this worker; the leader opens, writes and ends the run directory. Returns the exit status.

    asked: the number of the signal that asked for a stop, 0 while there is none
    0: finished. 128 + n: stopped in order by signal n, the last state saved. Else: refused by the leader.
    """
    torch.set_num_threads(1)
    exact_convolutions()
    if not world.leads:
        start: Progress | int = world.from_leader(0)
        if isinstance(start, int):
            return start
        return _status(_train(plan, start, world, None, asked), plan, asked)
    with _refusals_told(world):
        log = _open(plan, world)
    with log:
        return _lead(plan, world, log, asked)


@contextmanager
def _refusals_told(world: World) -> Iterator[None]:
    """Tell the other workers, which wait for a start, the exit status where the leader cannot give one."""
    try:
        yield
    except BaseException as error:
        world.from_leader(2 if isinstance(error, ConfigError) else 1)
        raise


def _status(progress: Progress, plan: Plan, asked: Callable[[], int]) -> int:
    return 0 if progress.iteration >= plan.iterations else 128 + (asked() or signal.SIGTERM)


def _open(plan: Plan, world: World) -> RunLog:
    info = run_info() | {
        "command": plan.command,
        "options": plan.options,
        "workers": world.size,
        "device": model(plan.device),
        "n_parameters": plan.policy.n_parameters,
        "obs_dim": int(np.prod(plan.sim.obs_shape)),
        "state_dim": plan.sim.n_state,
        "action_dim": plan.sim.action_space.size,
    }
    return RunLog.open(plan.directory, plan.config, plan.identity, info)


def _finite(tree: Any) -> Any:
    """The tree with its infinite numbers as strings, which JSON can hold."""
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return str(tree) if isinstance(tree, float) and not np.isfinite(tree) else tree


def _lead(plan: Plan, world: World, log: RunLog, asked: Callable[[], int]) -> int:
    """The leader's part of a run: find where it stands, train on, and say how it went."""
    done = log.finished
    if done is not None and done["iterations"] >= plan.iterations:
        world.from_leader(0)
        print(f"{log.directory} is finished ({done['iterations']} iterations, score {done['score']:.4g}).")
        print(_where_to_look(log.directory))
        return 0
    with _refusals_told(world):
        progress = _progress(log.resume(), plan)
    world.from_leader(progress)
    with Display(plan.iterations, progress.iteration, _title(plan, world)) as display:
        for message in log.messages:
            display.message(message)
        if progress.iteration:
            display.message(f"resuming after iteration {progress.iteration - 1}")
        recorder = _Recorder(log, display)
        progress = _train(plan, progress, world, recorder, asked)
    if progress.iteration < plan.iterations:
        print(f"Stopped after {progress.iteration} of {plan.iterations} iterations; the same command resumes.")
        return _status(progress, plan, asked)
    log.finish(
        {"iterations": progress.iteration, "sim_steps_total": progress.sim_steps_total, "time_s": progress.time_s}
        | {"score": recorder.score}
    )
    print(f"Finished: {log.directory}, score {recorder.score:.4g} after {progress.time_s:.0f} s of training.")
    print(_where_to_look(log.directory))
    return 0


def _where_to_look(directory: Path) -> str:
    return f"Look at it: tensorboard --logdir {directory}"


def _title(plan: Plan, world: World) -> str:
    return f"{plan.directory} ({world.size} worker{'s' if world.size > 1 else ''})"


def _progress(checkpoint: State | None, plan: Plan) -> Progress:
    """Where the run stands: the checkpoint's place, or before iteration 0 with the input map measured."""
    if checkpoint is not None:
        return Progress(
            checkpoint["iteration"], checkpoint["sim_steps_total"], checkpoint["time_s"], checkpoint["state"]
        )
    measured = input_map(plan.network, plan.sim, plan.policy, plan.seed, plan.config["task"]["step_limit"])
    centre, half_range = (torch.from_numpy(np.array(x)) for x in (measured.centre, measured.half_range))
    state = {"input_centre": centre, "input_half_range": half_range}
    policy = replace(plan.policy, input_map=measured)
    return Progress(0, 0, 0.0, state | plan.algorithm(policy).initial())


def _train(
    plan: Plan, progress: Progress, world: World, recorder: "_Recorder | None", asked: Callable[[], int]
) -> Progress:
    """The loop, with the policy's input map taken out of the state and kept beside it."""
    inputs = {key: progress.state[key] for key in ("input_centre", "input_half_range")}
    policy = mapped(plan.policy, inputs["input_centre"].numpy(), inputs["input_half_range"].numpy())
    state = {key: value for key, value in progress.state.items() if key not in inputs}
    state["theta"] = state["theta"].to(plan.device)
    if recorder is not None:
        recorder.constants = inputs
    return train(
        plan.algorithm(policy),
        replace(progress, state=state),
        plan.iterations,
        plan.checkpoint_every,
        world,
        recorder,
        lambda: asked() != 0,
    )


class _Recorder:
    """Rows to the run directory and the display, checkpoints to the run directory with the constants beside θ."""

    def __init__(self, log: RunLog, display: Display) -> None:
        self.constants: State = {}
        self.score = log.last_row["collect/score"] if log.last_row else float("nan")
        self._log = log
        self._display = display

    def write(self, row: Row) -> None:
        self._log.write(row)
        self._display.update(row)
        self.score = float(row["collect/score"])

    def save(self, checkpoint: State) -> None:
        state = {key: _cpu(value) for key, value in checkpoint["state"].items()}
        self._log.save(checkpoint | {"state": self.constants | state})


def _cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, torch.Tensor) else value
