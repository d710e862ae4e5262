"""Laws of one point of a learning curve: an update is a function of its state, a search scores one lane a candidate."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from toy_sims import Echo, Point, mlp, single, trpo, vine

from trpo_cli.critics.base import CriticState, Value
from trpo_cli.optimizers.base import Arrays
from trpo_cli.optimizers.cem import Cem
from trpo_cli.parallel.group import Group
from trpo_cli.samplers.base import Memory, Sampler
from trpo_cli.samplers.episodes import run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.sims.base import Step, Task
from trpo_cli.training.algorithms import Algorithm, PolicyUpdate, PopulationSearch, Row
from trpo_cli.training.state import TrainingState

WORLD, POINT, ECHO = Group(), Point(), Echo()
POINT_TASK, ECHO_TASK = Task(POINT, 20), Task(ECHO, 20)
# Section 5 of the design: what a row of progress.jsonl holds, beside the trainer's own keys.
COLLECT = {f"collect/{k}" for k in ("episode_return", "score", "episode_length", "n_episodes", "sim_steps")}
UPDATE = {f"update/{k}" for k in ("mean_kl", "max_kl", "surrogate_gain", "accepted", "backtracks", "cg_residual")}
TIMES = {"time/collect_s", "time/update_s"}


def update(sampler: Sampler) -> PolicyUpdate:
    return PolicyUpdate(POINT_TASK, mlp(POINT), sampler, trpo(), 0)


def search(population: int = 20, sim: Echo | Point = POINT) -> PopulationSearch:
    return PopulationSearch(Task(sim, 20), mlp(sim), Cem(population, 0.25, 0.1, 0.0, 0), 0)


def comparable(row: Row) -> Row:
    return {key: value for key, value in row.items() if not key.startswith("time/")}


def flat(state: TrainingState) -> dict[str, object]:
    """Every array and number of a state by name."""
    found: dict[str, object] = vars(state) | {"theta": state.theta.numpy()}
    for part in (vars(found.pop("input_map")), found.pop("search") or {}):
        found |= {f"part {key}": value for key, value in part.items()}
    return found


EVERY = pytest.mark.parametrize(
    "algorithm", [update(single()), update(vine()), search()], ids=["single", "vine", "search"]
)


@EVERY
def test_an_iteration_is_a_function_of_state_and_iteration_and_leaves_its_state_alone(algorithm: Algorithm):
    def frozen(state: TrainingState) -> dict[str, object]:
        return {key: value.tobytes() if isinstance(value, np.ndarray) else value for key, value in flat(state).items()}

    first = replace(algorithm.initial(), episode_length=7.0)
    state = replace(first, iteration=3)
    before = frozen(state)
    (one, row), (same, row_again) = (algorithm.iterate(state, WORLD) for _ in range(2))
    assert frozen(state) == before == frozen(replace(algorithm.initial(), episode_length=7.0, iteration=3))
    assert frozen(one) == frozen(same) != before and frozen(one).keys() == before.keys()
    assert (one.iteration, one.sim_steps_total, one.time_s) == (3, 0, 0.0)  # counting is left to the loop
    assert comparable(row) == comparable(row_again)
    assert comparable(algorithm.iterate(replace(first, iteration=4), WORLD)[1]) != comparable(row)


@pytest.mark.parametrize("sampler", [single(), vine()], ids=["single", "vine"])
def test_a_row_has_the_keys_that_the_figures_are_drawn_from(sampler: Sampler):
    algorithm = update(sampler)
    _, row = algorithm.iterate(algorithm.initial(), WORLD)
    assert set(row) >= COLLECT | UPDATE | TIMES
    assert row["collect/score"] == pytest.approx(row["collect/episode_return"] / 20)
    _, row = search().iterate(search().initial(), WORLD)
    assert set(row) >= COLLECT | TIMES | {"update/best_return"}


def test_the_first_theta_is_a_function_of_the_seed():
    policy = mlp(POINT, (4,))
    thetas = [PolicyUpdate(POINT_TASK, policy, single(), trpo(), seed).initial().theta for seed in (0, 0, 1)]
    assert torch.equal(thetas[0], thetas[1]) and not torch.equal(thetas[0], thetas[2])
    assert torch.equal(thetas[0], policy.initial(Draw(0).generator("initial_policy")))
    for seed in (0, 1):  # and a search starts where the updates do
        found = PopulationSearch(POINT_TASK, policy, Cem(8, 0.25, 0.1, 0.0, 0), seed).initial().theta
        assert torch.equal(found, thetas[2 * seed])


def test_the_row_is_of_the_policy_that_drew_the_batch_not_of_the_updated_one():
    algorithm = update(single())
    state = replace(algorithm.initial(), iteration=5)
    _, row = algorithm.iterate(state, WORLD)
    paths = run_episodes(POINT_TASK, PolicyActor(algorithm.policy, state.theta), Draw(0, 5), range(16))
    assert row["collect/episode_return"] == pytest.approx(paths.rewards.sum(0).mean())


class Watched(Cem):
    """Keeps what it was told."""

    def tell(self, state: Arrays, thetas: np.ndarray, returns: np.ndarray) -> tuple[Arrays, dict[str, float]]:
        vars(self).setdefault("told", []).append((thetas, returns))
        return super().tell(state, thetas, returns)


def watched(seed: int = 4) -> PopulationSearch:
    return PopulationSearch(ECHO_TASK, mlp(ECHO), Watched(9, 0.4, 0.1, 0.0, 0), seed)


def test_candidates_depend_on_seed_and_iteration():
    asked = []
    for seed, iteration in ((4, 2), (4, 2), (4, 3), (5, 2)):
        algorithm = watched(seed)
        algorithm.iterate(replace(watched().initial(), iteration=iteration), WORLD)
        asked.append(algorithm.search.told[0][0])
    assert np.array_equal(asked[0], asked[1])
    assert not np.isin(asked[0], asked[2:]).any()


def test_an_iteration_tells_the_next_how_long_an_episode_is():
    told: list[float] = []

    def sampler(*words: object) -> object:
        told.append(words[-1].hint)  # type: ignore[arg-type]
        return single()(*words)  # type: ignore[arg-type]

    algorithm = PolicyUpdate(POINT_TASK, mlp(POINT), sampler, trpo(), 0)  # type: ignore[arg-type]
    state, row = algorithm.iterate(algorithm.initial(), WORLD)
    algorithm.iterate(state, WORLD)
    assert np.isnan(told[0]) and told[1] == pytest.approx(row["collect/episode_length"]) == state.episode_length


def test_a_running_input_map_is_of_all_observations_and_acts_from_the_next_iteration_on():
    algorithm = PolicyUpdate(POINT_TASK, replace(mlp(POINT), input_scale="running"), single(), trpo(), 0)
    state = algorithm.initial()
    assert state.inputs is not None and state.sim_steps_total == state.inputs.n
    after, row = algorithm.iterate(state, WORLD)
    assert after.inputs is not None and after.inputs.n == state.inputs.n + row["collect/sim_steps"]
    expected = after.inputs.input_map(after.input_map.clip).half_range
    assert after.input_map.half_range == expected != state.input_map.half_range
    _, through_another = algorithm.iterate(replace(state, theta=state.theta + 1, input_map=after.input_map), WORLD)
    _, through_its_own = algorithm.iterate(replace(state, theta=state.theta + 1), WORLD)
    assert through_another["collect/episode_return"] != through_its_own["collect/episode_return"]


class Noted:
    """A critic that knows nothing, and keeps how many states each fit was given, and which."""

    gae_lambda, least_advantage, advantage_memory, max_states = 1.0, 0.0, 0.0, 30

    def __init__(self) -> None:
        self.fits: list[np.ndarray] = []

    def initial(self, rng: np.random.Generator) -> CriticState:
        return CriticState(torch.from_numpy(rng.random(1)))

    def values(self, state: CriticState, inputs: torch.Tensor) -> np.ndarray:
        return np.zeros(len(inputs))

    def fit(self, state: CriticState, inputs: torch.Tensor, targets: np.ndarray, group: Group) -> Any:
        self.fits.append(targets)
        return state, {}


def test_a_critic_is_fitted_to_this_workers_share_of_the_states_that_it_takes():
    critic = Noted()
    algorithm = PolicyUpdate(POINT_TASK, mlp(POINT), single(), trpo(), 3, critic)
    state = algorithm.initial()
    assert state.critic is not None and state.critic.theta[0] == Draw(3).generator("initial_critic").random()
    memory = Memory(value=Value(critic, state.critic, algorithm.policy))
    batch, *_ = algorithm.sampler(POINT_TASK, algorithm.policy, state.theta, Draw(3), WORLD, memory)
    for n_workers in (1, 2):
        whole = replace(batch, n_states=n_workers * batch.n_states)
        algorithm._learn(algorithm.policy, state, whole, Draw(3), WORLD)
        sample = whole.some(30 // n_workers, Draw(3).generator("critic_sample"))
        np.testing.assert_array_equal(critic.fits[-1], sample.targets)


def test_a_batch_whose_advantages_vary_little_makes_a_small_step():
    class Remembering(Noted):
        advantage_memory = 0.75

    algorithm = PolicyUpdate(POINT_TASK, mlp(POINT), single(), trpo(kl_limit=0.01), 3, Remembering())
    state = algorithm.initial()
    assert state.critic is not None and state.critic.advantage_variance is None
    after, row = algorithm.iterate(state, WORLD)  # the first batch has nothing to be compared with
    assert row["update/kl_fraction"] == 1.0 and after.critic is not None
    variance = after.critic.advantage_variance
    assert variance is not None and variance > 0

    larger = replace(state, critic=replace(state.critic, advantage_variance=5 * variance))
    after, row = algorithm.iterate(larger, WORLD)  # the same batch
    assert after.critic is not None and after.critic.advantage_variance == pytest.approx((0.75 * 5 + 0.25) * variance)
    assert row["update/kl_fraction"] == pytest.approx(1 / 4)
    assert 0.001 < row["update/mean_kl"] <= 0.0025
    smaller = replace(state, critic=replace(state.critic, advantage_variance=variance / 5))
    assert algorithm.iterate(smaller, WORLD)[1]["update/kl_fraction"] == 1.0


def test_what_is_known_of_the_advantages_is_saved_with_the_critic():
    critic, fraction = CriticState(torch.zeros(2)).after_advantages(4.0, 0.9)
    assert (critic.advantage_variance, fraction) == (4.0, 1.0)
    critic, fraction = critic.after_advantages(1.0, 0.9)
    assert critic.advantage_variance == pytest.approx(3.7) and fraction == pytest.approx(1 / 3.7)
    assert CriticState.from_dict(critic.to_dict()).advantage_variance == critic.advantage_variance
    assert CriticState(torch.zeros(2)).after_advantages(0.0, 0.9)[1] == 1.0
    assert critic.after_advantages(0.5, 0.0)[1] == 1.0  # no memory: every batch has the whole trust region


def test_streams_run_on_from_one_iteration_to_the_next():
    class Endless(Point):
        def step(self, states: np.ndarray, actions: np.ndarray) -> Step:
            return super().step(states, actions)._replace(terminated=np.zeros(len(states), bool))

    sampler = single(streams=2, steps_per_iteration=10)
    algorithm = PolicyUpdate(Task(Endless(), 1000), mlp(POINT), sampler, trpo(), 0, Noted())
    state = algorithm.initial()
    for iteration in range(3):
        state, _ = algorithm.iterate(replace(state, iteration=iteration), WORLD)
    assert state.streams is not None and state.streams.t.tolist() == [15, 15]


def test_every_candidate_is_scored_by_one_episode_in_its_own_lane():
    policy, algorithm = mlp(ECHO), watched()
    state, row = algorithm.iterate(replace(algorithm.initial(), iteration=2), WORLD)
    ((thetas, returns),) = algorithm.search.told
    for q in range(9):
        alone = run_episodes(ECHO_TASK, PolicyActor(policy, torch.from_numpy(thetas[q])), Draw(4, 2), range(q, q + 1))
        assert returns[q] == pytest.approx(alone.rewards.sum())
    assert row["collect/episode_return"] == pytest.approx(returns.mean())  # of the whole population
    assert row["collect/n_episodes"] == 9 and row["update/best_return"] == returns.max()
    elite = np.argsort(-returns)[:4]
    np.testing.assert_allclose(state.theta, thetas[elite].mean(0))  # and that is the policy it hands out


def test_a_search_improves_a_toy_task():
    algorithm = search(60)
    state, scores = algorithm.initial(), []
    for iteration in range(12):
        state, row = algorithm.iterate(replace(state, iteration=iteration), WORLD)
        scores.append(row["collect/score"])
    assert scores[0] < 0.5 < 0.7 < scores[-1]
