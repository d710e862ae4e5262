"""One run, in this worker: open the run directory, train, say how it went."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.cem import Cem
from trpo_cli.optimizers.cma import Cma
from trpo_cli.parallel.devices import exact_convolutions, model
from trpo_cli.parallel.group import Group
from trpo_cli.policies.conv import Conv
from trpo_cli.policies.mlp import Mlp
from trpo_cli.runs.console import Display
from trpo_cli.runs.log import RunLog
from trpo_cli.runs.provenance import run_info
from trpo_cli.samplers.base import Sampler
from trpo_cli.samplers.input_range import Network, input_map, mapped
from trpo_cli.sims.base import Simulator
from trpo_cli.training.algorithms import Algorithm, PolicyUpdate, PopulationSearch, Row, State
from trpo_cli.training.loop import Progress, train


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, checked; the same in every worker."""

    directory: Path
    command: str  # that composes this configuration
    config: dict[str, Any]
    identity: dict[str, Any]  # what decides the rows of the run; another one's directory is refused
    options: dict[str, str]  # the one chosen for each group
    sim: Simulator
    network: Mlp | Conv
    policy: Network  # its inputs not yet mapped
    sampler: Sampler
    optimizer: Any  # an Optimizer or a Search
    device: str  # that updates are computed on
    seed: int
    step_limit: int  # environment steps of an episode at most
    iterations: int
    checkpoint_every: int

    def algorithm(self, policy: Network) -> Algorithm:
        """The loop's body with this policy."""
        if isinstance(self.optimizer, Cem | Cma):
            return PopulationSearch(self.sim, policy, self.optimizer, self.step_limit, self.seed)
        return PolicyUpdate(self.sim, policy, self.sampler, self.optimizer, self.seed)


def execute(plan: Plan, group: Group, asked: Callable[[], int]) -> int:
    """Train in this worker; the leader opens, writes and ends the run directory. Returns the exit status.

    asked: the number of the signal that asked for a stop, 0 while there is none
    0: finished. 128 + n: stopped in order by signal n, the last state saved. Else: refused by the leader.
    """
    torch.set_num_threads(1)
    exact_convolutions()
    if not group.leads:
        start: Progress | int = group.from_leader(0)
        if isinstance(start, int):
            return start
        return _status(_train(plan, start, group, None, asked), plan, asked)
    with _refusals_told(group):
        log = _open(plan, group)
    with log:
        return _lead(plan, group, log, asked)


@contextmanager
def _refusals_told(group: Group) -> Iterator[None]:
    """Tell the other workers, which wait for a start, the exit status where the leader cannot give one."""
    try:
        yield
    except BaseException as error:
        group.from_leader(2 if isinstance(error, ConfigError) else 1)
        raise


def _status(progress: Progress, plan: Plan, asked: Callable[[], int]) -> int:
    return 0 if progress.iteration >= plan.iterations else 128 + (asked() or signal.SIGTERM)


def _open(plan: Plan, group: Group) -> RunLog:
    info = run_info() | {
        "command": plan.command,
        "options": plan.options,
        "workers": group.size,
        "device": model(plan.device),
        "n_parameters": plan.policy.n_parameters,
        "obs_dim": int(np.prod(plan.sim.obs_shape)),
        "state_dim": plan.sim.n_state,
        "action_dim": plan.sim.action_space.size,
    }
    return RunLog.open(plan.directory, plan.config, plan.identity, info)


def _lead(plan: Plan, group: Group, log: RunLog, asked: Callable[[], int]) -> int:
    """The leader's part of a run: find where it stands, train on, and say how it went."""
    done = log.finished
    if done is not None and done["iterations"] >= plan.iterations:
        group.from_leader(0)
        print(f"{log.directory} is finished ({done['iterations']} iterations, score {done['score']:.4g}).")
        print(_where_to_look(log.directory))
        return 0
    with _refusals_told(group):
        progress = _progress(log.resume(), plan)
    group.from_leader(progress)
    with Display(plan.iterations, progress.iteration, _title(plan, group)) as display:
        for message in log.messages:
            display.message(message)
        if progress.iteration:
            display.message(f"resuming after iteration {progress.iteration - 1}")
        recorder = _Recorder(log, display)
        progress = _train(plan, progress, group, recorder, asked)
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


def _title(plan: Plan, group: Group) -> str:
    return f"{plan.directory} ({group.size} worker{'s' if group.size > 1 else ''})"


def _progress(checkpoint: State | None, plan: Plan) -> Progress:
    """Where the run stands: the checkpoint's place, or before iteration 0 with the input map measured."""
    if checkpoint is not None:
        return Progress(
            checkpoint["iteration"], checkpoint["sim_steps_total"], checkpoint["time_s"], checkpoint["state"]
        )
    measured = input_map(plan.network, plan.sim, plan.policy, plan.seed, plan.step_limit)
    centre, half_range = (torch.from_numpy(np.array(x)) for x in (measured.centre, measured.half_range))
    state = {"input_centre": centre, "input_half_range": half_range}
    policy = replace(plan.policy, input_map=measured)
    return Progress(0, 0, 0.0, state | plan.algorithm(policy).initial())


def _train(
    plan: Plan, progress: Progress, group: Group, recorder: "_Recorder | None", asked: Callable[[], int]
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
        group,
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
