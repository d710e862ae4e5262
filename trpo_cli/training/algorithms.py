"""One point of a learning curve to the next: an update from a batch, or a generation of a search."""

from dataclasses import dataclass
from math import nan
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch

from trpo_cli.optimizers.base import Optimizer, Search
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.base import Sampler
from trpo_cli.samplers.episodes import episode_stats, policy_noise
from trpo_cli.samplers.randomness import generator, generators
from trpo_cli.samplers.rollout import PolicyActor, rollout
from trpo_cli.sims.base import Simulator

LENGTH = "episode_length"  # in an update's state: steps of the last batch's mean episode, NaN before the first

State = dict[str, Any]  # "theta" [D] and what else the algorithm needs to go on: tensors by name
Row = dict[str, Any]  # numbers, strings, and tuples of numbers: a distribution


class Algorithm(Protocol):
    """What the trainer repeats; the state is a value, the same in every worker."""

    def initial(self) -> State: ...
    def iterate(self, state: State, iteration: int, group: Group) -> tuple[State, Row]: ...


@dataclass(frozen=True)
class PolicyUpdate:
    """Section 6: sample a batch with the policy, update the policy from the batch."""

    sim: Simulator
    policy: Policy
    sampler: Sampler
    optimizer: Optimizer
    seed: int

    def initial(self) -> State:
        return {"theta": self.policy.initial(generator(self.seed, "initial_policy")), LENGTH: torch.tensor(nan)}

    def iterate(self, state: State, iteration: int, group: Group) -> tuple[State, Row]:
        theta, start = state["theta"], perf_counter()
        # Simulators are on the processor, and small batches of lanes are decided faster there than sent elsewhere.
        expected = float(state.get(LENGTH, nan))
        batch, stats = self.sampler(self.sim, self.policy, theta.cpu(), self.seed, iteration, group, expected)
        collected = perf_counter()
        rng = generator(self.seed, "fisher_sample", iteration)
        updated = self.optimizer(self.policy, theta, batch.to(theta.device), rng, group)
        times = {"time/collect_s": collected - start, "time/update_s": perf_counter() - collected}
        length = torch.tensor(stats["collect/episode_length"])
        return {"theta": updated.theta, LENGTH: length}, stats | updated.stats | times


@dataclass(frozen=True)
class PopulationSearch:
    """Derivative-free search: one episode a candidate, all candidates at once, each in a lane of its own.

    The score is that of the whole population, as in Figure 4 (authors' code).
    """

    sim: Simulator
    policy: Policy
    search: Search
    step_limit: int
    seed: int

    def initial(self) -> State:
        theta = self.policy.initial(generator(self.seed, "initial_policy"))
        return _state(self.search.start(theta.double().numpy()), self.search, theta)

    def iterate(self, state: State, iteration: int, group: Group) -> tuple[State, Row]:
        start = perf_counter()
        inner = {k.removeprefix("search/"): v.numpy() for k, v in state.items() if k != "theta"}
        thetas = self.search.ask(inner, generator(self.seed, "candidates", iteration))
        mine = group.share(len(thetas))
        rows = torch.as_tensor(thetas[mine.start : mine.stop]).to(state["theta"].dtype)
        states = self.sim.reset(generators(self.seed, "initial_state", iteration, mine))
        noise = policy_noise(self.policy, self.seed, "policy_noise", iteration, mine, self.step_limit)
        roll = rollout(self.sim, PolicyActor(self.policy, rows), states, noise, keep_decisions=False)
        returns = np.asarray(group.concatenate(roll.rewards.sum(0)), np.float64)
        stats = episode_stats(roll, self.step_limit, group)
        collected = perf_counter()
        inner, found = self.search.tell(inner, thetas, returns)
        times = {"time/collect_s": collected - start, "time/update_s": perf_counter() - collected}
        row: Row = {**stats, **found, **times}
        return _state(inner, self.search, state["theta"]), row


def _state(inner: dict[str, Any], search: Search, like: torch.Tensor) -> State:
    """The search's arrays as tensors, with the policy it would hand out as ``theta``."""
    theta = torch.as_tensor(search.mean(inner)).to(like)
    return {"theta": theta} | {f"search/{k}": torch.as_tensor(np.asarray(v)) for k, v in inner.items()}
