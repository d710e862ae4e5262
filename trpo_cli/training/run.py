"""One run, in this worker: open the run directory, train, print the result."""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trpo_cli.critics.base import Critic
from trpo_cli.errors import ConfigError, RunError, StuckError
from trpo_cli.optimizers.base import Optimizer, Search
from trpo_cli.parallel.devices import make_convolutions_exact, model_name, worker_device
from trpo_cli.parallel.group import Group
from trpo_cli.parallel.settings import seed_global_generators
from trpo_cli.policies.base import Policy
from trpo_cli.runs.console import Display, number
from trpo_cli.runs.directory import disk_errors
from trpo_cli.runs.files import LAST, PROGRESS, final_words, finite, last_rows, score_is_shown
from trpo_cli.runs.log import RunLog
from trpo_cli.runs.logger import InProcess, Logger
from trpo_cli.runs.provenance import run_info
from trpo_cli.samplers.base import Sampler
from trpo_cli.sims.base import Remarking, Task
from trpo_cli.sims.spaces import spaces_of, to_json
from trpo_cli.training.algorithms import Algorithm, PolicyUpdate, PopulationSearch, Row
from trpo_cli.training.evaluation import GreedyEvaluation
from trpo_cli.training.loop import Schedule, train
from trpo_cli.training.start import Start
from trpo_cli.training.state import TrainingState


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, checked; the same in every worker."""

    directory: Path
    command: str  # the one that composes this configuration
    config: dict[str, Any]
    identity: dict[str, Any]  # what decides the rows of the run; a directory with another identity is refused
    options: dict[str, str]  # the option chosen for each group
    task: Task
    policy: Policy
    sampler: Sampler
    optimizer: Optimizer | Search
    device: str  # where updates are computed
    seed: int
    schedule: Schedule
    critic: Critic | None = None
    evaluate: GreedyEvaluation | None = None  # between iterations
    average_over: float | None = None  # fraction of the iterations so far whose mean policy is kept; None: none
    start: Start | None = None  # what a run begins with that goes on from another one
    loggers: Sequence[Logger] = ()  # no part of the run's identity
    label: str = ""  # begins every line of progress, if several runs print at the same time

    def is_done(self, state: TrainingState) -> bool:
        """True if the run has come to its end."""
        return self.schedule.is_done(state.iteration, state.sim_steps_total, state.score)

    @property
    def shows_score(self) -> bool:
        """True if a score tells something beside the return."""
        return score_is_shown(self.options.get("env", ""))

    @property
    def max_workers(self) -> int | None:
        """How many workers have something to do; None: any number."""
        return None if isinstance(self.optimizer, Search) else self.sampler.n_lanes

    @property
    def algorithm(self) -> Algorithm:
        """The loop's body."""
        if isinstance(self.optimizer, Search):
            return PopulationSearch(self.task, self.policy, self.optimizer, self.seed)
        parts = (self.task, self.policy, self.sampler, self.optimizer, self.seed, self.critic)
        return PolicyUpdate(*parts, self.average_over)


@dataclass(frozen=True)
class Refused:
    """What the leader tells the other workers instead of a state to start from."""

    status: int  # the exit status


Asked = Callable[[], int]  # the number of the signal that asked for a stop, or 0


def execute(plan: Plan, group: Group, asked: Asked) -> int:
    """Train in this worker; the leader opens, writes and ends the run directory. Returns the exit status.

    0: finished. 128 + n: stopped in order by signal n, the last state saved. Anything else: refused by the leader.
    """
    torch.set_num_threads(1)
    make_convolutions_exact()
    seed_global_generators(plan.seed, group.rank)  # the loop does it again in each iteration
    if group.leads:
        with _shown_as_given(plan.directory):
            with _telling_refusals(group):
                log = _open(plan, group)
            with log:
                return _lead(plan, group, log, asked)
    start: TrainingState | Refused = group.from_leader(Refused(0))
    if isinstance(start, Refused):
        return start.status
    return _status(_train(plan, start, group, None, asked), plan, asked)


@contextmanager
def _shown_as_given(directory: Path) -> Iterator[None]:
    """Name the run directory in sentences as the user did. Files are opened by its absolute name."""
    absolute = str(directory.absolute())
    try:
        yield
    except (ConfigError, RunError) as error:
        raise type(error)(str(error).replace(absolute, str(directory))) from error


@contextmanager
def _telling_refusals(group: Group) -> Iterator[None]:
    """If the leader fails, tell the exit status to the other workers, which wait for a state to start from."""
    try:
        yield
    except BaseException as error:
        group.from_leader(Refused(2 if isinstance(error, ConfigError) else 1))
        raise


def _status(state: TrainingState, plan: Plan, asked: Asked) -> int:
    return 0 if plan.is_done(state) else 128 + (asked() or signal.SIGTERM)


def _open(plan: Plan, group: Group) -> RunLog:
    sim = plan.task.sim
    info = run_info() | {
        "command": plan.command,
        "options": plan.options,
        "workers": group.size,
        "device": model_name(plan.device),
        "n_parameters": plan.policy.n_parameters,
        "obs_dim": int(np.prod(sim.obs_shape)),
        "state_dim": sim.n_state,
        "action_dim": sim.action_space.size,
        "spaces": finite(dict(zip(("observation", "action"), map(to_json, spaces_of(sim)), strict=True))),
    }
    if remarks := _remarks(plan):
        info["remarks"] = remarks
    # Absolute: an environment may change the working directory.
    return RunLog.open(plan.directory.absolute(), plan.config, plan.identity, info, plan.loggers)


def _remarks(plan: Plan) -> list[str]:
    return plan.task.sim.remarks if isinstance(plan.task.sim, Remarking) else []


def _lead(plan: Plan, group: Group, log: RunLog, asked: Asked) -> int:
    """The leader's part of a run: load the last state, go on training, and print the result."""
    with _telling_refusals(group):
        done = log.finished
        finished = done is not None and plan.schedule.is_done(
            done["iterations"], done["sim_steps_total"], done.get("stopped_at")
        )
        if not finished:
            saved = log.resume()
            state = _begin(plan, asked) if saved is None else TrainingState.from_dict(saved)
    if done is not None and finished:
        group.from_leader(Refused(0))
        final = final_words(_rows(log, LAST), plan.shows_score)
        print(f"{plan.directory} is finished ({done['iterations']} iterations): {final}.")
        if plan.evaluate is not None and log.earlier_setting("eval") != plan.config["eval"]:
            print("eval.every and eval.episodes apply to the iterations that follow if it is made longer.")
        print(_what_next(plan, done["iterations"], done["sim_steps_total"], done.get("stopped_at")))
        return 0
    group.from_leader(state)
    limits, title = plan.schedule, _title(plan, group)
    with Display(
        limits.iterations,
        state.iteration,
        title,
        total_steps=limits.total_steps,
        with_score=plan.shows_score,
        label=plan.label,
    ) as display:
        for message in [*log.take_messages(), *_remarks(plan)]:
            display.message(message)
        if state.iteration:
            display.message(f"resuming after iteration {state.iteration - 1}")
        if plan.evaluate and state.best is not None and plan.evaluate.best_before(state) is None:
            display.message(
                f"eval.episodes was {state.best_of} and is now {plan.evaluate.episodes}: the scores cannot be "
                "compared, and the next evaluation begins a new best.pt"
            )
        recorder = _Recorder(log, display)
        state = _train(plan, state, group, recorder, asked)
    if plan.is_done(state):
        return _finish(plan, state, log, recorder.score)
    log.close_loggers()
    _print_messages(log)
    if plan.schedule.is_stuck(state.refused):
        raise StuckError(
            f"after {state.iteration} iterations, of which the last {state.refused} took no step "
            f"({state.refusal}), this run can learn nothing more; it is saved, and max_refused=null goes on"
        )
    of = "" if limits.iterations is None else f" of {limits.iterations}"
    print(f"Stopped after {state.iteration}{of} iterations; the same command resumes.")
    return _status(state, plan, asked)


def _finish(plan: Plan, state: TrainingState, log: RunLog, score: float | None) -> int:
    """Mark the run as finished and say so; the exit status."""
    stop_at = plan.schedule.stop_at
    log.finish(
        {"iterations": state.iteration, "sim_steps_total": state.sim_steps_total, "time_s": state.time_s}
        | {"score": score}
        | ({} if stop_at is None else {"stopped_at": state.score})
    )
    _print_messages(log)
    rows = _rows(log, sys.maxsize)
    final = final_words(rows, plan.shows_score)
    print(f"Finished: {plan.directory}, {final}, after {state.time_s:.0f} s of training.")
    if told := _never_updated(rows):
        print(told)
    if stop_at is not None and state.score is not None and state.score >= stop_at:
        what = "an evaluation" if plan.evaluate else "a batch"
        print(f"It ended because the score of {what}, {number(state.score)}, reached stop_at={stop_at:g}.")
    print(_what_next(plan, state.iteration, state.sim_steps_total, state.score))
    return 0


def _print_messages(log: RunLog) -> None:
    for message in log.take_messages():
        print(message)


def _begin(plan: Plan, asked: Asked) -> TrainingState:
    """The state before iteration 0. If a stop is asked for meanwhile, it is not trained from, and not saved."""
    if plan.policy.input_scale != "fixed":
        print(f"{plan.directory}: measuring the inputs of the fresh policy", flush=True)
    state = plan.algorithm.initial(lambda: asked() != 0)
    return state if plan.start is None else plan.start.replaces(state)


def _rows(log: RunLog, n: int) -> list[Row]:
    """The last ``n`` rows of the run."""
    with disk_errors(log.directory):
        return last_rows(log.directory, n)


def _never_updated(rows: Sequence[Row]) -> str:
    """A sentence about a run in which no update was ever taken; nothing about any other."""
    if any(row.get("update/accepted", True) for row in rows):
        return ""
    reason = rows[-1].get("update/reason")
    return f"It did not take a single update: the policy is the one that it began with ({reason})."


def _what_next(plan: Plan, iterations: int, steps: int, score: float | None) -> str:
    """The commands that show a run that ended after so much, and that make it longer."""
    limits, directory = plan.schedule, shlex.quote(str(plan.directory))
    done = {"iterations": iterations, "total_steps": steps}
    longer = [
        f"{key}={2 * (limit if 2 * limit > n else n)}" for key, n in done.items() if (limit := getattr(limits, key))
    ]
    reached = limits.stop_at is not None and score is not None and score >= limits.stop_at
    words = [*longer, *(["stop_at=null"] if reached else [])]
    extend = f"Make it longer: trpo-train continue={directory} {' '.join(words)}"
    return f"{extend}\n{_where_to_look(plan)}"


def _where_to_look(plan: Plan) -> str:
    shown = [logger.look_at(str(plan.directory)) for logger in plan.loggers if isinstance(logger, InProcess)]
    return f"Look at it: {next(iter(shown), shlex.quote(str(plan.directory / PROGRESS)))}"


def _title(plan: Plan, group: Group) -> str:
    return f"{plan.directory} ({group.size} worker{'s' if group.size > 1 else ''})"


def _train(plan: Plan, state: TrainingState, group: Group, recorder: "_Recorder | None", asked: Asked) -> TrainingState:
    device = worker_device(plan.device, group.local_rank)
    algorithm, schedule = plan.algorithm, plan.schedule

    def stop() -> bool:
        return asked() != 0

    return train(algorithm, state.to(device), schedule, group, recorder, stop, plan.evaluate, plan.seed)


class _Recorder:
    """Writes rows to the run directory and the display, and states to the run directory as checkpoints."""

    def __init__(self, log: RunLog, display: Display) -> None:
        self.score: float | None = log.last_row["collect/score"] if log.last_row else None
        self._log = log
        self._display = display

    def write(self, row: Row) -> None:
        self._log.write(row)
        for message in self._log.take_messages():
            self._display.message(message)
        self._display.update(row)
        if "eval/return" in row:
            greedy = f"greedy return {number(row['eval/return'])}, score {number(row['eval/score'])}"
            self._display.message(
                f"after {row['iteration'] + 1} iterations: {greedy} ({row['eval/n_episodes']} episodes)"
            )
        score = float(row["collect/score"])
        self.score = None if isnan(score) else score

    def save(self, state: TrainingState) -> None:
        self._log.save(state.to_dict())

    def save_best(self, state: TrainingState) -> None:
        self._log.save_best(state.to_dict())
