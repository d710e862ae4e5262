"""Greedy episodes between two iterations of a run: ``eval.every`` and ``eval.episodes``."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.episodes import Purposes, run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.sims.base import Task
from trpo_cli.training.algorithms import Row
from trpo_cli.training.state import TrainingState

PURPOSES = Purposes("greedy_start", "greedy_noise")  # neither training nor ``trpo-eval`` draws the same first states


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

    def __call__(self, state: TrainingState, group: Group) -> Row:
        """The ``eval/`` columns."""
        begun = perf_counter()
        actor = PolicyActor(self.policy.with_input_map(state.input_map), state.theta.cpu(), greedy=True)
        roll = run_episodes(self.task, actor, Draw(self.seed), group.share(self.episodes), "rewards", PURPOSES)
        returns = np.asarray(group.concatenate(roll.rewards.sum(0)), np.float64)
        return {
            "eval/return": float(returns.mean()),
            "eval/return_std": float(returns.std()),
            "eval/score": float(returns.mean()) / self.task.step_limit,
            "eval/n_episodes": len(returns),
            "time/eval_s": perf_counter() - begun,
        }
