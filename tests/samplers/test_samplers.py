"""Laws of single path and vine on simulators with known Q-values (Section 5)."""

from collections import Counter
from dataclasses import replace
from math import nan, sqrt

import numpy as np
import pytest
import torch
from scipy import stats
from toy_sims import Array, Chain, Echo, Point, mlp, scripted, single, vine

from trpo_cli.errors import ConfigError
from trpo_cli.parallel.group import Group
from trpo_cli.policies.mlp import MlpPolicy
from trpo_cli.samplers.episodes import episode_stats, policy_noise, run_paths
from trpo_cli.samplers.randomness import generators
from trpo_cli.samplers.single_path import SinglePath
from trpo_cli.samplers.vine import Vine

WORLD = Group()
CHAIN, POINT, ECHO = Chain(), Point(), Echo()


def theta_of(policy: MlpPolicy, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(policy.n_parameters))


CHAIN_POLICY, ECHO_POLICY, POINT_POLICY = mlp(CHAIN), mlp(ECHO), mlp(POINT)
CHAIN_THETA = theta_of(CHAIN_POLICY)
ECHO_THETA = torch.tensor([0.1, -0.2, 0.3, np.log(0.5)]).double()
POINT_THETA = torch.tensor([-0.5, 0.0, np.log(0.5)]).double()  # pushes back with half of x
CHAIN_PLACES = np.arange(4.0)[:, None]
EVERY_CHOICE = torch.arange(3)[:, None]


def probabilities(theta: torch.Tensor = CHAIN_THETA) -> Array:
    logits = CHAIN_POLICY.params(theta, CHAIN_POLICY.tensor(CHAIN.observe(CHAIN_PLACES)))
    return logits.softmax(1).numpy()


def test_reward_to_go_is_an_unbiased_estimate_of_q():
    sampler = single(n_paths=1000, step_limit=8, baseline="none", standardise=False)
    batch, _ = sampler(CHAIN, CHAIN_POLICY, CHAIN_THETA, 1, 0, WORLD)
    first = slice(0, 1000)  # packed by time: the first decision of every path
    place, choice = batch.obs[first].argmax(1), batch.actions[first, 0, 0].numpy()
    q = CHAIN.q_values(probabilities(), 0.9, 8)
    for s in range(4):
        for a in range(3):
            found = batch.advantages[first, 0].numpy()[(place == s) & (choice == a)]
            assert len(found) > 10
            error = found.std() / sqrt(len(found))
            assert abs(found.mean() - q[s, a]) <= 3 * error + 1e-12, (s, a)


def test_with_a_policy_that_is_certain_reward_to_go_is_q_exactly():
    certain = 1e4 * CHAIN_THETA
    sampler = single(n_paths=50, step_limit=8, baseline="none", standardise=False)
    batch, _ = sampler(CHAIN, CHAIN_POLICY, certain, 1, 0, WORLD)
    q = CHAIN.q_values(probabilities(certain), 0.9, 8)
    first = slice(0, 50)
    place, choice = batch.obs[first].argmax(1), batch.actions[first, 0, 0].numpy()
    np.testing.assert_allclose(batch.advantages[first, 0], q[place, choice], rtol=1e-12)


def test_the_batch_says_which_policy_drew_which_actions():
    batch, _ = single()(ECHO, ECHO_POLICY, ECHO_THETA, 1, 0, WORLD)
    assert batch.estimator == "importance" and batch.actions.shape[1:] == (1, 1) and batch.n_states == len(batch.obs)
    params = ECHO_POLICY.params(ECHO_THETA, ECHO_POLICY.tensor(batch.obs))
    torch.testing.assert_close(batch.old, params)
    torch.testing.assert_close(batch.log_q[:, 0], ECHO_POLICY.dist.log_prob(params, batch.actions[:, 0]))


def test_the_time_baseline_is_the_mean_at_each_step_and_holds_below_five_paths():
    rng = np.random.default_rng(0)
    lengths = np.array([1, 3, 3, 4, 4, 4, 6, 7])  # alive at t = 0…6: 8, 7, 7, 5, 2, 2, 1
    alive = np.arange(7)[:, None] < lengths
    rewards = np.where(alive, rng.standard_normal((7, 8)), 0.0)
    roll = scripted(rewards, lengths)
    found = single(gamma=0.5, standardise=False).advantages(roll, WORLD)
    to_go = sum(0.5**k * np.vstack([rewards[k:], np.zeros((k, 8))]) for k in range(7))
    baseline = [to_go[t][alive[t]].mean() for t in range(4)]
    baseline += [baseline[3]] * 3
    np.testing.assert_allclose(found, [to_go[t, i] - baseline[t] for t, i in zip(roll.t, roll.lane, strict=True)])


def test_with_fewer_than_five_paths_in_all_the_baseline_holds_when_the_first_ends():
    rewards = np.array([[1.0, 3.0], [0.0, 4.0]])
    found = single(gamma=1.0, standardise=False).advantages(scripted(rewards, np.array([1, 2])), WORLD)
    np.testing.assert_allclose(found, [1 - 4, 7 - 4, 4 - 4])


def test_the_baseline_of_a_path_cut_off_by_the_budget_is_never_missing():
    # The first lanes of a rollout keep rows of the time at which only later lanes were alive.
    rewards = np.array([[1.0, 3.0], [2.0, 4.0], [0.0, 0.0]])
    found = single(gamma=1.0, standardise=False).advantages(scripted(rewards, np.array([2, 2])), WORLD)
    np.testing.assert_allclose(found, [3 - 5, 7 - 5, 2 - 3, 4 - 3])


@pytest.mark.parametrize("baseline", ["time", "none"])
def test_standardised_advantages_have_unit_variance_and_keep_their_proportions(baseline: str):
    roll = run_paths(POINT, POINT_POLICY, POINT_THETA, 1, 0, range(16), 20)
    bare = single(baseline=baseline, standardise=False).advantages(roll, WORLD)
    found = single(baseline=baseline).advantages(roll, WORLD)
    assert found.std() == pytest.approx(1.0)
    np.testing.assert_allclose(found * bare.std(), bare)


@pytest.mark.parametrize("baseline", ["time", "none"])
@pytest.mark.parametrize("reward", [0.0, 0.1, 1e6])
def test_without_variance_there_is_no_advantage(baseline: str, reward: float):
    roll = scripted(np.full((1, 7), reward), np.ones(7, int))
    assert not single(baseline=baseline).advantages(roll, WORLD).any()


@pytest.mark.parametrize("budget", [1, 20, 50, 137])
def test_a_budget_of_steps_is_met_by_the_fewest_whole_episodes(budget: int):
    bare = {"baseline": "none", "standardise": False}
    everything = run_paths(ECHO, ECHO_POLICY, ECHO_THETA, 3, 2, range(100), 20)
    n = int(np.searchsorted(np.cumsum(everything.lengths), budget)) + 1
    batch, found = single(steps_per_iteration=budget, **bare)(ECHO, ECHO_POLICY, ECHO_THETA, 3, 2, WORLD)
    assert found["collect/n_episodes"] == n
    assert everything.lengths[:n].sum() == len(batch.obs) >= budget
    assert found["collect/sim_steps"] >= len(batch.obs)  # the episodes that were not needed are counted, not used
    assert budget > everything.lengths[: n - 1].sum()
    exact, _ = single(n_paths=n, **bare)(ECHO, ECHO_POLICY, ECHO_THETA, 3, 2, WORLD)

    def rows(b: object) -> Array:
        table = np.column_stack([b.obs, b.actions[:, 0], b.advantages])
        return table[np.lexsort(table.T)]

    np.testing.assert_allclose(rows(batch), rows(exact))


@pytest.mark.parametrize("sampler", [single(steps_per_iteration=137), vine(trunk_steps=40)], ids=["single", "vine"])
def test_what_is_expected_of_an_episode_decides_what_is_dropped_and_nothing_else(sampler: SinglePath | Vine):
    batches, steps = [], []
    for expected in (nan, 0.5, 3.0, 1e6):
        batch, found = sampler(ECHO, ECHO_POLICY, ECHO_THETA, 3, 2, WORLD, expected)
        order = np.lexsort(np.column_stack([batch.obs, batch.advantages]).T)
        batches.append([x[order] for x in (batch.obs, batch.actions.numpy(), batch.advantages.numpy())])
        steps.append(found["collect/sim_steps"])
    for other in batches[1:]:
        for ours, theirs in zip(batches[0], other, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert steps[1] > max(steps[2:])  # the shorter the episodes are taken to be, the more of them


def test_any_budget_gives_finite_advantages_of_at_least_two_paths():
    for seed in range(40):  # one episode in five or so outlives all that are kept
        sampler = single(steps_per_iteration=25, step_limit=30)
        batch, found = sampler(Echo(12), ECHO_POLICY, ECHO_THETA, seed, 0, WORLD)
        assert torch.isfinite(batch.advantages).all() and found["collect/n_episodes"] >= 2
    batch, found = single(steps_per_iteration=1)(ECHO, ECHO_POLICY, ECHO_THETA, 0, 0, WORLD)
    assert found["collect/n_episodes"] == 2 and batch.advantages.any()


def test_scale_draws_a_fraction_of_the_paths_or_steps():
    _, found = single(n_paths=12, scale=0.25)(POINT, POINT_POLICY, POINT_THETA, 0, 0, WORLD)
    assert found["collect/n_episodes"] == 3
    _, found = single(steps_per_iteration=400, scale=0.25)(POINT, POINT_POLICY, POINT_THETA, 0, 0, WORLD)
    assert 100 <= found["collect/sim_steps"] < 120


def test_many_paths_run_in_groups_that_do_not_show(monkeypatch: pytest.MonkeyPatch):
    whole = run_paths(ECHO, ECHO_POLICY, ECHO_THETA, 3, 2, range(5, 30), 20)
    monkeypatch.setattr(Echo, "max_lanes", 7)
    pieces = run_paths(ECHO, ECHO_POLICY, ECHO_THETA, 3, 2, range(5, 30), 20)
    np.testing.assert_array_equal(whole.lengths, pieces.lengths)
    np.testing.assert_allclose(whole.rewards, pieces.rewards)


def test_the_statistics_of_episodes_by_hand():
    roll = scripted(np.array([[1.0, 2.0, 3.0], [0.0, 2.0, 1.0]]), np.array([1, 2, 2]))
    found = episode_stats(replace(roll, terminated=np.array([True, False, False])), 10, WORLD)
    assert found == {
        "collect/episode_return": 3.0,
        "collect/episode_return_std": pytest.approx(np.std([1, 4, 4])),
        "collect/episode_return_max": 4.0,
        "collect/episode_return_min": 1.0,
        "collect/score": 0.3,
        "collect/episode_length": pytest.approx(5 / 3),
        "collect/n_episodes": 3,
        "collect/terminated_fraction": pytest.approx(1 / 3),
        "collect/sim_steps": 5,
        "collect/episode_returns": (1.0, 4.0, 4.0),
    }


def chain_q(places: Array, choices: torch.Tensor, theta: torch.Tensor = CHAIN_THETA, horizon: int = 5) -> Array:
    sampler = vine(branch_length=horizon, standardise=False)
    actions = choices.expand(len(places), -1, -1)
    q, _ = sampler.q_values(CHAIN, CHAIN_POLICY, theta, places, actions, 0, 0, range(len(places)))
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
        states, mine = sampler.rollout_set(trunks, 0, iteration, WORLD)
        visits = {tuple(s) for s in states}
        assert len(visits) == len(states) == n and mine == range(n)
        counts.update(visits)
    assert set(counts) == {(t, i) for i in range(3) for t in range(lengths[i])}
    observed, share = np.array(list(counts.values())), n / 14
    variance = draws * share * (1 - share)
    chi_square = ((observed - draws * share) ** 2).sum() / variance * 13 / 14
    assert stats.chi2.sf(chi_square, 13) > 1e-3


def test_where_too_few_states_were_visited_all_are_taken():
    states, _ = vine(n_states=50).rollout_set(scripted(np.zeros((2, 2)), np.array([1, 2])), 0, 0, WORLD)
    assert sorted(map(tuple, states)) == [(0, 0), (0, 1), (1, 1)]


def echo_branches(m: int, common: bool, k: int = 4) -> tuple[Array, Array]:
    """Q-values less the first step's reward, which is all that a branch's noise decides, and the noise's lanes."""
    states = np.column_stack([np.full(m, 10.0), np.linspace(0, 1, m)])
    sampler = vine(branch_length=6, common_random_numbers=common, n_actions=k)
    first = torch.from_numpy(np.random.default_rng(0).standard_normal((m, k, 1)))
    q, n_steps = sampler.q_values(ECHO, ECHO_POLICY, ECHO_THETA, states, first, 3, 2, range(20, 20 + m))
    assert n_steps == m * k * 6
    return q - (1 + 2 * first[..., 0].numpy()), states


def test_the_same_noise_reaches_all_branches_of_a_state():
    rest, states = echo_branches(5, common=True)
    np.testing.assert_allclose(rest, rest[:, :1].repeat(4, axis=1), rtol=1e-12)
    noise = policy_noise(ECHO_POLICY, 3, "branch_noise", 2, range(20, 25), 6)[:, :, 0].astype(float)
    left = 10.0 - np.arange(6)[:, None]
    controls = 1 + 2 * (0.1 * left - 0.2 * states[:, 1].astype(np.float32).astype(float) + 0.3 + 0.5 * noise)
    np.testing.assert_allclose(rest[:, 0], 0.9 ** np.arange(1, 6) @ controls[1:], rtol=1e-12)
    assert len(np.unique(rest[:, 0].round(9))) == 5  # another noise for another state


def test_without_common_random_numbers_every_branch_has_its_own():
    rest, _ = echo_branches(5, common=False)
    assert len(np.unique(rest.round(9))) == 20


def test_common_random_numbers_cut_the_variance_of_advantage_differences_fivefold():
    m = 2000
    states, pushes = np.full((m, 1), 0.5), torch.tensor([[-0.5], [0.5]]).double().expand(m, 2, 1)
    variances, means = [], []
    for common in (True, False):
        sampler = vine(branch_length=10, common_random_numbers=common, n_actions=2)
        q, _ = sampler.q_values(POINT, POINT_POLICY, POINT_THETA, states, pushes, 0, 0, range(m))
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
        actions, log_q = sampler.tried_actions(CHAIN_POLICY, old, 0, 0, range(m))
        assert actions.shape == (m, k, 1)
        np.testing.assert_allclose(log_q.exp(), p[actions[..., 0]])
        assert stats.chisquare(np.bincount(actions.ravel(), minlength=3), m * k * p).pvalue > 1e-3


def test_a_states_actions_depend_on_its_own_place_alone():
    old = torch.zeros(6, 2).double()
    actions, _ = vine().tried_actions(ECHO_POLICY, old, 4, 5, range(6))
    some, _ = vine().tried_actions(ECHO_POLICY, old[2:5], 4, 5, range(2, 5))
    torch.testing.assert_close(some, actions[2:5], rtol=0, atol=0)
    expected = [rng.standard_normal((3, 1), dtype=np.float32) for rng in generators(4, "branch_action", 5, range(6))]
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
    batch, _ = sampler(CHAIN, CHAIN_POLICY, CHAIN_THETA, 0, 0, WORLD)
    assert batch.estimator == chosen
    if chosen == "all_actions":
        assert batch.actions[:, :, 0].tolist() == [[0, 1, 2]] * 12
    else:
        assert batch.actions.shape == (12, n_actions, 1)
    continuous, _ = vine(estimator="auto", n_actions=7)(ECHO, ECHO_POLICY, ECHO_THETA, 0, 0, WORLD)
    assert continuous.estimator == "self_normalised"


def test_advantages_have_mean_zero_over_a_states_actions_and_a_typical_spread_of_one():
    q = np.random.default_rng(0).standard_normal((9, 4)) * np.arange(1, 10)[:, None] + 100
    bare = vine(standardise=False).advantages(q, WORLD)
    np.testing.assert_allclose(bare, q - q.mean(1, keepdims=True))
    found = vine().advantages(q, WORLD)
    assert found.std(1).mean() == pytest.approx(1.0)
    np.testing.assert_allclose(found * bare.std(1).mean(), bare)
    for constant in (0.0, 0.1, 1e6):
        equal = np.full((5, 3), constant)
        assert not vine().advantages(equal, WORLD).any()
        equal[:, 0] += np.spacing(constant) * (constant > 0)  # rounding is no ground to prefer an action
        assert not vine().advantages(equal, WORLD).any()


def test_a_vine_is_its_trunks_its_rollout_set_and_its_branches():
    sampler, sim = vine(standardise=False), Echo()
    batch, found = sampler(sim, ECHO_POLICY, ECHO_THETA, 6, 1, WORLD)
    trunks = run_paths(ECHO, ECHO_POLICY, ECHO_THETA, 6, 1, range(8), 20, keep_states=True)
    states, mine = sampler.rollout_set(trunks, 6, 1, WORLD)
    np.testing.assert_array_equal(batch.obs, ECHO.observe(states))
    torch.testing.assert_close(batch.old, ECHO_POLICY.params(ECHO_THETA, ECHO_POLICY.tensor(batch.obs)))
    q, n_steps = sampler.q_values(ECHO, ECHO_POLICY, ECHO_THETA, states, batch.actions, 6, 1, mine)
    np.testing.assert_allclose(batch.advantages, q - q.mean(1, keepdims=True))
    assert batch.n_states == found["collect/n_states"] == 12
    assert found["collect/sim_steps"] == trunks.n_steps + n_steps == sum(sim.calls)
    assert found["collect/branch_steps"] == n_steps
    assert found["collect/episode_return"] == pytest.approx(trunks.rewards.sum(0).mean())
    assert found["collect/n_episodes"] == 8


def test_states_whose_actions_lead_to_the_same_value_are_counted_as_not_told_apart():
    sampler = vine(n_actions=2, estimator="self_normalised", standardise=False)
    batch, found = sampler(CHAIN, CHAIN_POLICY, CHAIN_THETA, 0, 0, WORLD)
    told_apart = batch.advantages.abs().amax(1) > 0
    same = batch.actions[:, 0, 0] == batch.actions[:, 1, 0]  # under the same noise the branches are the same too
    assert found["collect/told_apart_fraction"] == told_apart.double().mean() == (~same).double().mean()
    assert 0 < found["collect/told_apart_fraction"] < 1


@pytest.mark.parametrize("sampler", [single(), vine()], ids=["single", "vine"])
def test_a_batch_is_a_function_of_theta_seed_and_iteration(sampler: object):
    def draw(seed: int, iteration: int) -> Array:
        batch, _ = sampler(POINT, POINT_POLICY, POINT_THETA, seed, iteration, WORLD)
        return np.column_stack([batch.obs, batch.actions[:, 0], batch.advantages[:, :1]])

    np.testing.assert_array_equal(draw(0, 0), draw(0, 0))
    assert not np.isin(draw(0, 0), draw(0, 1)).any() and not np.isin(draw(0, 0), draw(1, 0)).any()


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (single, {"gamma": 0.0}),
        (single, {"gamma": 1.5}),
        (single, {"step_limit": 0}),
        (single, {"n_paths": 0}),
        (single, {"n_paths": 1}),
        (single, {"steps_per_iteration": 0}),
        (single, {"scale": 0.0}),
        (single, {"baseline": "value"}),
        (vine, {"n_trunks": 0}),
        (vine, {"n_states": 0}),
        (vine, {"n_actions": 1}),
        (vine, {"branch_length": 0}),
        (vine, {"scale": -1.0}),
        (vine, {"proposal": "greedy"}),
        (vine, {"estimator": "mean"}),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(make: type, changes: dict[str, object]):
    ((name, value),) = changes.items()
    with pytest.raises(ConfigError, match=rf"sampler\.{name}={value}"):
        make(**changes)


def test_what_needs_a_finite_action_set_is_refused_without_one():
    for changes in ({"proposal": "uniform"}, {"estimator": "all_actions"}):
        vine(**changes).check(CHAIN)
        with pytest.raises(ConfigError, match="continuous"):
            vine(**changes).check(POINT)
    assert single().check(POINT) is None
