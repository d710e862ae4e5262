"""One iteration: an update from a batch, or a generation of a search."""

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from trpo_cli.critics.base import Critic, CriticState, Value
from trpo_cli.optimizers.base import Arrays, Optimizer, Search
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.base import Budgeted, Memory, Sampler
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.episodes import episode_stats, run_episodes
from trpo_cli.samplers.input_range import Stop, measure_input_map, measure_input_moments, never
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.sims.base import Task
from trpo_cli.training.state import TrainingState

SMALL_BATCH = 4096  # states that the leader learns from faster than all workers do, which have to exchange sums
Row = dict[str, Any]  # numbers and strings; a tuple of numbers is shown as a histogram


class Algorithm(Protocol):
    """What the loop repeats. The state is a value, the same in every worker; the loop keeps the counters."""

    def initial(self, stop: Stop = never) -> TrainingState:
        """Before iteration 0. If ``stop()`` becomes true, a measurement of the inputs ends early."""
        ...

    def iterate(self, state: TrainingState, group: Group) -> tuple[TrainingState, Row]: ...


@dataclass(frozen=True)
class PolicyUpdate:
    """Section 6: sample a batch with the policy, update the policy from the batch."""

    task: Task
    policy: Policy
    sampler: Sampler
    optimizer: Optimizer
    seed: int
    critic: Critic | None = None
    average_over: float | None = None  # fraction of the iterations so far whose mean policy is kept; None: none

    def initial(self, stop: Stop = never) -> TrainingState:
        """Fresh parameters of policy and critic, and the policy's input map, measured first if it asks for it."""
        budget = self.sampler.steps_per_iteration if isinstance(self.sampler, Budgeted) else None
        state = initial_state(self.task, self.policy, self.seed, budget, stop)
        if self.critic is None:
            return state
        return replace(state, critic=self.critic.initial(Draw(self.seed).generator("initial_critic")))

    def iterate(self, state: TrainingState, group: Group) -> tuple[TrainingState, Row]:
        start = perf_counter()
        policy, draw = self.policy.with_input_map(state.input_map), Draw(self.seed, state.iteration)
        value = None
        if self.critic is not None and state.critic is not None:
            value = Value(self.critic, state.critic, policy)
        # Sampling stays on the CPU: the simulators run there, and small batches are not worth sending to a GPU.
        theta = state.theta.cpu()
        memory = Memory(state.episode_length, value, state.streams)
        batch, stats, streams = self.sampler(self.task, policy, theta, draw, group, memory)
        collected = perf_counter()
        row: Row = stats | {"time/collect_s": collected - start}
        if self.critic is not None and state.critic is not None and batch.advantage_variance is not None:
            variance, weight = batch.advantage_variance, self.critic.advantage_memory
            critic_state, fraction = state.critic.after_advantages(variance, weight)
            state, batch = replace(state, critic=critic_state), replace(batch, kl_fraction=fraction)
            row["update/kl_fraction"] = fraction
        if value is not None and group.size > 1 and batch.n_states <= SMALL_BATCH and batch.obs.dtype != object:
            whole = batch.gathered(group)
            learnt = self._learn(policy, state, whole, draw, Group.alone()) if group.leads else None
            theta, critic, more = group.from_leader(learnt)  # type: ignore[misc]
        else:
            theta, critic, more = self._learn(policy, state, batch, draw, group)
        length = float(stats["collect/episode_length"])
        after = replace(state, theta=theta.to(state.theta), critic=critic, episode_length=length, streams=streams)
        if state.inputs is not None:
            inputs = state.inputs.with_more(batch.obs, group)
            after = replace(after, inputs=inputs, input_map=inputs.input_map(policy.input_map.clip))
        return after if self.average_over is None else after.averaged(self.average_over), row | more

    def _learn(
        self, policy: Policy, state: TrainingState, batch: Batch, draw: Draw, group: Group
    ) -> tuple[Tensor, CriticState | None, Row]:
        """The policy's new parameters, the critic after its fit, and the statistics of both."""
        begun = perf_counter()
        updated = self.optimizer(policy, state.theta, batch.to(state.theta.device), draw, group)
        row: Row = updated.stats | {"time/update_s": perf_counter() - begun}
        if self.critic is None or state.critic is None or batch.targets is None:
            return updated.theta, state.critic, row
        begun = perf_counter()
        most = self.critic.max_states
        if most is not None and most < batch.n_states:
            batch = batch.some(len(batch.old) * most // batch.n_states, draw.generator("critic_sample"))
        assert batch.targets is not None
        critic, found = self.critic.fit(state.critic, policy.tensor(batch.obs), batch.targets, group)
        return updated.theta, critic, row | found | {"time/critic_s": perf_counter() - begun}


@dataclass(frozen=True)
class PopulationSearch:
    """Derivative-free search: one episode per candidate, all candidates at once, each in a lane of its own.

    The score is that of the whole population, as in Figure 4 (authors' code).
    """

    task: Task
    policy: Policy
    search: Search
    seed: int

    def initial(self, stop: Stop = never) -> TrainingState:
        """A search that starts at the policy's fresh parameters."""
        state = initial_state(self.task, self.policy, self.seed, None, stop)
        return self._with(state, self.search.start(state.theta.double().numpy()))

    def iterate(self, state: TrainingState, group: Group) -> tuple[TrainingState, Row]:
        assert state.search is not None
        start, draw = perf_counter(), Draw(self.seed, state.iteration)
        thetas = self.search.ask(state.search, draw.generator("candidates"))
        mine = group.share(len(thetas))
        rows = torch.as_tensor(thetas[mine.start : mine.stop]).to(state.theta.dtype)
        candidates = PolicyActor(self.policy.with_input_map(state.input_map), rows, first_lane=mine.start)
        roll = run_episodes(self.task, candidates, draw, mine, keep="rewards")
        returns = np.asarray(group.concatenate(roll.rewards.sum(0)), np.float64)
        stats = episode_stats(roll, self.task.step_limit, group)
        collected = perf_counter()
        search, found = self.search.tell(state.search, thetas, returns)
        times = {"time/collect_s": collected - start, "time/update_s": perf_counter() - collected}
        return self._with(state, search), {**stats, **found, **times}

    def _with(self, state: TrainingState, search: Arrays) -> TrainingState:
        """The state with the search's arrays, and with their centre as ``theta``."""
        return replace(state, theta=torch.as_tensor(self.search.mean(search)).to(state.theta), search=search)


def initial_state(
    task: Task, policy: Policy, seed: int, budget: int | None = None, stop: Stop = never
) -> TrainingState:
    """Before iteration 0: fresh parameters, and the input map, measured if ``policy.input_scale`` says so.

    budget: of an iteration, in environment steps; the measurement takes no more steps of a slow environment.
    """
    theta = policy.initial(Draw(seed).generator("initial_policy"))
    if policy.input_scale == "percentile":
        return TrainingState(theta, measure_input_map(task, policy, Draw(seed), budget, stop))
    if policy.input_scale == "running":
        inputs = measure_input_moments(task, policy, Draw(seed), budget, stop)
        input_map = inputs.input_map(policy.input_map.clip)
        return TrainingState(theta, input_map, inputs=inputs, sim_steps_total=int(inputs.n))
    return TrainingState(theta, policy.input_map)
