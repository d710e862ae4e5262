"""Laws of the vine on simulators with known Q-values (Section 5.2)."""

from collections import Counter
from math import sqrt

import numpy as np
import pytest
import torch
from scipy import stats
from toy_policies import (
    CHAIN,
    CHAIN_PLACES,
    CHAIN_POLICY,
    CHAIN_TASK,
    CHAIN_THETA,
    ECHO,
    ECHO_ACTOR,
    ECHO_POLICY,
    ECHO_TASK,
    ECHO_THETA,
    POINT,
    POINT_ACTOR,
    WORLD,
    probabilities,
)
from toy_sims import Array, Echo, Point, mlp, scripted, vine

from trpo_cli.errors import ConfigError
from trpo_cli.samplers.base import Memory
from trpo_cli.samplers.episodes import policy_noise, run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.samplers.vine import Branches, state_values
from trpo_cli.sims.base import Step, Task

EVERY_CHOICE = torch.arange(3)[:, None]


def chain_q(places: Array, choices: torch.Tensor, theta: torch.Tensor = CHAIN_THETA, horizon: int = 5) -> Array:
    sampler = vine(branch_length=horizon, standardise=False)
    actions = choices.expand(len(places), -1, -1)
    branches = Branches(CHAIN, PolicyActor(CHAIN_POLICY, theta), None)
    q, _ = sampler.q_values(branches, places, actions, Draw(0), range(len(places)))
    return q


def test_branches_estimate_the_q_values_of_their_length():
    places = np.repeat(CHAIN_PLACES, 2000, axis=0)
    found = chain_q(places, EVERY_CHOICE).reshape(4, 2000, 3)
    exact = CHAIN.q_values(probabilities(), 0.9, 5)
    error = found.std(1) / sqrt(2000)
    assert (np.abs(found.mean(1) - exact) <= 3 * error + 1e-12).all()
    assert (np.abs(exact - CHAIN.q_values(probabilities(), 0.9, 6)) > 3 * error).any()  # not one step more


def test_with_a_policy_that_is_certain_branches_give_q_exactly():
    certain = 1e4 * CHAIN_THETA
    exact = CHAIN.q_values(probabilities(certain), 0.9, 5)
    np.testing.assert_allclose(chain_q(CHAIN_PLACES, EVERY_CHOICE, certain), exact, rtol=1e-12)
    np.testing.assert_allclose(chain_q(CHAIN_PLACES, EVERY_CHOICE, horizon=1), CHAIN.rewards, rtol=1e-12)


def test_after_the_end_of_an_episode_a_branch_earns_nothing():
    last, right = np.array([[3.0]]), torch.tensor([[2]])
    assert chain_q(last, right)[0, 0] == CHAIN.rewards[3, 2]
    assert not chain_q(np.array([[4.0]]), EVERY_CHOICE).any()  # a terminal state is absorbing


def test_the_rollout_set_is_uniform_over_all_visits_and_without_replacement():
    lengths, n, draws = np.array([1, 9, 4]), 5, 3000
    trunks, sampler, counts = scripted(np.zeros((9, 3)), lengths), vine(n_states=5), Counter()
    for iteration in range(draws):
        states, mine = sampler.rollout_set(trunks, Draw(0, iteration), WORLD, 3)
        visits = {tuple(s) for s in states}
        assert len(visits) == len(states) == n and mine == range(n)
        counts.update(visits)
    assert set(counts) == {(t, i) for i in range(3) for t in range(lengths[i])}
    observed, share = np.array(list(counts.values())), n / 14
    variance = draws * share * (1 - share)
    chi_square = ((observed - draws * share) ** 2).sum() / variance * 13 / 14
    assert stats.chi2.sf(chi_square, 13) > 1e-3


def test_where_too_few_states_were_visited_all_are_taken():
    states, _ = vine(n_states=50).rollout_set(scripted(np.zeros((2, 2)), np.array([1, 2])), Draw(0), WORLD, 3)
    assert sorted(map(tuple, states)) == [(0, 0), (0, 1), (1, 1)]


def echo_branches(m: int, common: bool, k: int = 4) -> tuple[Array, Array]:
    """Q-values less the first step's reward, which is all that a branch's noise decides, and the noise's lanes."""
    states = np.column_stack([np.full(m, 10.0), np.linspace(0, 1, m)])
    sampler = vine(branch_length=6, common_random_numbers=common, n_actions=k)
    first = torch.from_numpy(np.random.default_rng(0).standard_normal((m, k, 1)))
    q, n_steps = sampler.q_values(Branches(ECHO, ECHO_ACTOR, None), states, first, Draw(3, 2), range(20, 20 + m))
    assert n_steps == m * k * 6
    return q - (1 + 2 * first[..., 0].numpy()), states


def test_the_same_noise_reaches_all_branches_of_a_state():
    rest, states = echo_branches(5, common=True)
    np.testing.assert_allclose(rest, rest[:, :1].repeat(4, axis=1), rtol=1e-12)
    noise = policy_noise(ECHO_POLICY.dist, Draw(3, 2), "branch_noise", range(20, 25), 6)[:, :, 0].astype(float)
    left = 10.0 - np.arange(6)[:, None]
    controls = 1 + 2 * (0.1 * left - 0.2 * states[:, 1].astype(np.float32).astype(float) + 0.3 + 0.5 * noise)
    np.testing.assert_allclose(rest[:, 0], 0.9 ** np.arange(1, 6) @ controls[1:], rtol=1e-12)
    assert len(np.unique(rest[:, 0].round(9))) == 5  # another noise for another state


def test_without_common_random_numbers_every_branch_has_its_own():
    rest, _ = echo_branches(5, common=False)
    assert len(np.unique(rest.round(9))) == 20


@pytest.mark.parametrize("common", [True, False])
def test_no_more_branches_run_at_a_time_than_the_simulator_takes(common: bool, monkeypatch: pytest.MonkeyPatch):
    whole, _ = echo_branches(5, common)
    ECHO.calls.clear()
    monkeypatch.setattr(Echo, "max_lanes", 9)
    pieces, _ = echo_branches(5, common)
    np.testing.assert_allclose(pieces, whole, rtol=1e-12)
    assert max(ECHO.calls) == 8  # four branches of each of two states


def test_trunks_and_branches_share_a_budget_of_steps():
    class Endless(Point):
        def step(self, states: Array, actions: Array) -> Step:
            return super().step(states, actions)._replace(terminated=np.zeros(len(states), bool))

    policy, task = mlp(Endless()), Task(Endless(), 20)
    theta = policy.initial(np.random.default_rng(0))
    for budget, n_states in ((400, 16), (1, 1)):  # eight trunks of 20 steps; three branches of five steps per state
        batch, found, _ = vine(steps_per_iteration=budget)(task, policy, theta, Draw(0), WORLD)
        assert batch.n_states == n_states and found["collect/sim_steps"] == 160 + 15 * n_states


def test_common_random_numbers_cut_the_variance_of_advantage_differences_fivefold():
    m = 2000
    states, pushes = np.full((m, 1), 0.5), torch.tensor([[-0.5], [0.5]]).double().expand(m, 2, 1)
    variances, means = [], []
    for common in (True, False):
        sampler = vine(branch_length=10, common_random_numbers=common, n_actions=2)
        q, _ = sampler.q_values(Branches(POINT, POINT_ACTOR, None), states, pushes, Draw(0), range(m))
        difference = q[:, 0] - q[:, 1]
        variances.append(difference.var())
        means.append(difference.mean())
    assert variances[1] > 5 * variances[0]
    assert abs(means[0] - means[1]) < 3 * sqrt(sum(variances) / m)  # and the mean is the same


def test_actions_are_drawn_from_the_proposal_and_know_its_density():
    m, k = 500, 4
    old = CHAIN_POLICY.params(CHAIN_THETA, CHAIN_POLICY.tensor(CHAIN.observe(np.zeros((m, 1)))))
    for proposal, p in (("policy", old[0].softmax(0).numpy()), ("uniform", np.full(3, 1 / 3))):
        sampler = vine(n_actions=k, proposal=proposal, estimator="self_normalised")
        actions, log_q = sampler.tried_actions(CHAIN_POLICY.dist, old, Draw(0, 0), range(m))
        assert actions.shape == (m, k, 1)
        np.testing.assert_allclose(log_q.exp(), p[actions[..., 0]])
        assert stats.chisquare(np.bincount(actions.ravel(), minlength=3), m * k * p).pvalue > 1e-3


def test_a_states_actions_depend_on_its_own_place_alone():
    old = torch.zeros(6, 2).double()
    actions, _ = vine().tried_actions(ECHO_POLICY.dist, old, Draw(4, 5), range(6))
    some, _ = vine().tried_actions(ECHO_POLICY.dist, old[2:5], Draw(4, 5), range(2, 5))
    torch.testing.assert_close(some, actions[2:5], rtol=0, atol=0)
    expected = [
        rng.standard_normal((3, 1), dtype=np.float32) for rng in Draw(4, 5).generators("branch_action", range(6))
    ]
    np.testing.assert_array_equal(actions, np.float64(expected))


@pytest.mark.parametrize(
    ("estimator", "n_actions", "chosen"),
    [
        ("auto", 3, "all_actions"),
        ("auto", 7, "all_actions"),
        ("auto", 2, "self_normalised"),
        ("all_actions", 2, "all_actions"),
        ("self_normalised", 3, "self_normalised"),
        ("importance", 3, "importance"),
    ],
)
def test_equation_15_is_chosen_where_every_action_can_be_tried(estimator: str, n_actions: int, chosen: str):
    sampler = vine(estimator=estimator, n_actions=n_actions)
    batch, _, _ = sampler(CHAIN_TASK, CHAIN_POLICY, CHAIN_THETA, Draw(0), WORLD)
    assert batch.estimator == chosen
    if chosen == "all_actions":
        assert batch.actions[:, :, 0].tolist() == [[0, 1, 2]] * 12
    else:
        assert batch.actions.shape == (12, n_actions, 1)
    continuous, _, _ = vine(estimator="auto", n_actions=7)(ECHO_TASK, ECHO_POLICY, ECHO_THETA, Draw(0), WORLD)
    assert continuous.estimator == "self_normalised"


@pytest.mark.parametrize(("estimator", "n_actions"), [("all_actions", 2), ("auto", 30), ("self_normalised", 2)])
def test_a_budget_of_steps_pays_for_the_actions_that_are_tried(estimator: str, n_actions: int):
    sampler = vine(estimator=estimator, n_actions=n_actions, n_trunks=20, branch_length=1, steps_per_iteration=600)
    batch, found, _ = sampler(CHAIN_TASK, CHAIN_POLICY, CHAIN_THETA, Draw(0), WORLD)
    k = batch.actions.shape[1]
    assert k == (2 if estimator == "self_normalised" else 3)
    assert 600 - k < found["collect/sim_steps"] <= 600  # a branch of one step costs one step


def test_advantages_have_mean_zero_over_a_states_actions_and_a_typical_spread_of_one():
    q = np.random.default_rng(0).standard_normal((9, 4)) * np.arange(1, 10)[:, None] + 100
    bare = vine(standardise=False).advantages(q, WORLD)
    np.testing.assert_allclose(bare, q - q.mean(1, keepdims=True))
    found = vine().advantages(q, WORLD)
    assert found.std(1).mean() == pytest.approx(1.0)
    np.testing.assert_allclose(found * bare.std(1).mean(), bare)
    np.testing.assert_allclose(vine().advantages(1e-7 * (q - 100) + 1, WORLD), found, rtol=1e-6)  # small, not rounding
    for constant in (0.0, 0.1, 1e6):
        equal = np.full((5, 3), constant)
        assert not vine().advantages(equal, WORLD).any()
        equal[:, 0] += np.spacing(constant) * (constant > 0)  # rounding is no ground to prefer an action
        assert not vine().advantages(equal, WORLD).any()


def test_the_value_of_a_state_is_the_mean_of_its_q_values_under_the_policy():
    old, q = CHAIN_POLICY.params(CHAIN_THETA, CHAIN_POLICY.tensor(np.eye(4))), np.random.default_rng(0).random((4, 3))
    p, every = old.softmax(1), EVERY_CHOICE.expand(4, -1, -1)
    exact = (p.numpy() * q).sum(1)
    np.testing.assert_allclose(state_values(CHAIN_POLICY.dist, old, every, torch.zeros(4, 3), q), exact)
    np.testing.assert_allclose(state_values(CHAIN_POLICY.dist, old, every, torch.full((4, 3), -1.1), q), exact)
    np.testing.assert_allclose(state_values(CHAIN_POLICY.dist, old, every, p.log(), q), q.mean(1))  # drawn from it


def test_a_vine_is_its_trunks_its_rollout_set_and_its_branches():
    sampler, sim = vine(standardise=False), Echo()
    batch, found, _ = sampler(Task(sim, 20), ECHO_POLICY, ECHO_THETA, Draw(6, 1), WORLD)
    trunks = run_episodes(ECHO_TASK, ECHO_ACTOR, Draw(6, 1), range(8), keep="states")
    states, mine = sampler.rollout_set(trunks, Draw(6, 1), WORLD, 3)
    np.testing.assert_array_equal(batch.obs, ECHO.observe(states))
    torch.testing.assert_close(batch.old, ECHO_POLICY.params(ECHO_THETA, ECHO_POLICY.tensor(batch.obs)))
    q, n_steps = sampler.q_values(Branches(ECHO, ECHO_ACTOR, None), states, batch.actions, Draw(6, 1), mine)
    np.testing.assert_allclose(batch.advantages, q - q.mean(1, keepdims=True))
    assert batch.n_states == found["collect/n_states"] == 12
    assert found["collect/sim_steps"] == trunks.n_steps + n_steps == sum(sim.calls)
    assert found["collect/branch_steps"] == n_steps
    assert found["collect/episode_return"] == pytest.approx(trunks.rewards.sum(0).mean())
    assert found["collect/n_episodes"] == 8


def test_the_steps_of_trunks_that_were_dropped_are_counted():
    sim = Echo()
    _, found, _ = vine(trunk_steps=30)(Task(sim, 20), ECHO_POLICY, ECHO_THETA, Draw(0), WORLD, Memory(1.0))
    assert found["collect/sim_steps"] == sum(sim.calls)


def test_states_whose_actions_lead_to_the_same_value_are_counted_as_not_told_apart():
    sampler = vine(n_actions=2, estimator="self_normalised", standardise=False)
    batch, found, _ = sampler(CHAIN_TASK, CHAIN_POLICY, CHAIN_THETA, Draw(0), WORLD)
    told_apart = batch.advantages.abs().amax(1) > 0
    same = batch.actions[:, 0, 0] == batch.actions[:, 1, 0]  # under the same noise the branches are the same too
    assert found["collect/told_apart_fraction"] == told_apart.double().mean() == (~same).double().mean()
    assert 0 < found["collect/told_apart_fraction"] < 1


@pytest.mark.parametrize(
    "changes",
    [
        {"n_trunks": 0},
        {"n_states": 0},
        {"n_actions": 1},
        {"branch_length": 0},
        {"proposal": "greedy"},
        {"estimator": "mean"},
    ],
)
def test_a_value_out_of_range_is_refused_by_name(changes: dict[str, object]):
    ((name, value),) = changes.items()
    with pytest.raises(ConfigError, match=rf"sampler\.{name}={value}"):
        vine(**changes)


def test_what_needs_a_finite_action_set_is_refused_without_one():
    for changes in ({"proposal": "uniform"}, {"estimator": "all_actions"}):
        vine(**changes).check(CHAIN, has_critic=False)
        with pytest.raises(ConfigError, match="continuous"):
            vine(**changes).check(POINT, has_critic=False)
