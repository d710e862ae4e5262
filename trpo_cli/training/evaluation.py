"""Greedy episodes between two iterations of a run: ``eval.every`` and ``eval.episodes``."""

from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.episodes import Purposes, run_episodes
from trpo_cli.samplers.input_range import Stop, never
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor, solved
from trpo_cli.sims.base import Task
from trpo_cli.training.algorithms import Row
from trpo_cli.training.state import TrainingState

PURPOSES = Purposes("greedy_start", "greedy_noise")  # neither training nor ``trpo-eval`` draws the same first states


class _StopAskedError(Exception):
    """A stop is asked for while episodes are played."""


@dataclass(frozen=True)
class _Stoppable(PolicyActor):
    """A policy that acts until ``stop()`` is true."""

    stop: Stop = never

    def __call__(self, *arguments: Any) -> tuple[Any, Any]:
        if self.stop():
            raise _StopAskedError
        return super().__call__(*arguments)


@dataclass(frozen=True)
class GreedyEvaluation:
    """The most likely actions, over the same first states each time, in all workers."""

    task: Task
    policy: Policy
    seed: int
    every: int  # iterations from one evaluation to the next
    episodes: int

    def is_due(self, iteration: int) -> bool:
        """True after every ``every``-th iteration; ``iteration`` is how many are done."""
        return iteration % self.every == 0

    def best_before(self, state: TrainingState) -> float | None:
        """The highest score so far, None if it cannot be compared: evaluations of other sizes vary more or less."""
        return state.best if state.best_of in (None, self.episodes) else None

    def __call__(self, state: TrainingState, group: Group, stop: Stop = never) -> Row | None:
        """The ``eval/`` columns; None if any worker's ``stop()`` became true meanwhile."""
        begun = perf_counter()
        actor = _Stoppable(self.policy.with_input_map(state.input_map), state.learnt.cpu(), greedy=True, stop=stop)
        share, roll = group.share(self.episodes), None
        with suppress(_StopAskedError):
            roll = run_episodes(self.task, actor, Draw(self.seed), share, "rewards", PURPOSES)
        if group.maximum(roll is None) or roll is None:
            return None
        returns = np.asarray(group.concatenate(roll.rewards.sum(0)), np.float64)
        assert roll.success is not None
        success = np.asarray(group.concatenate(roll.success), np.float64)
        return solved(success, "eval/success_fraction") | {
            "eval/return": float(returns.mean()),
            "eval/return_std": float(returns.std()),
            "eval/score": float(returns.mean()) / self.task.step_limit,
            "eval/n_episodes": len(returns),
            "time/eval_s": perf_counter() - begun,
        }
