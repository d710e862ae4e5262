"""Laws of the group of workers: what they share, and that their number shows in nothing but rounding."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from compose import planned
from random_batches import in_workers
from toy_sims import Echo, cartpole, mlp, single, trpo, vine

from trpo_cli.optimizers.cem import Cem
from trpo_cli.optimizers.fisher import analytic_metric, fisher_matrix
from trpo_cli.optimizers.surrogate import surrogate_at
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import InputMap
from trpo_cli.samplers.episodes import policy_noise, run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.sims.base import Task
from trpo_cli.training import algorithms
from trpo_cli.training.algorithms import PolicyUpdate, PopulationSearch
from trpo_cli.training.state import TrainingState

SIZES = pytest.mark.parametrize("size", [1, 2, 3])
SIM, N_ITERATIONS = cartpole(), 3
TASK = Task(SIM, 40)
POLICY = mlp(SIM, output_norm=0.3)
THETA = POLICY.initial(np.random.default_rng(0))
SAMPLERS = {
    "single": single(gamma=0.99, n_paths=11),
    "steps": single(gamma=0.99, steps_per_iteration=250),
    "vine": vine(gamma=0.99, n_trunks=5, n_states=17, n_actions=4, branch_length=10),
}
SMALL = {"update/cg_residual"}  # what is itself no more than rounding


def exchanges(group: Group) -> dict[str, Any]:
    rank, own = group.rank, torch.arange(4.0).double().reshape(2, 2) * (group.rank + 1)
    total = group.sum(own)
    return {
        "place": (group.rank, group.size, group.leads),
        "shares": [group.share(n) for n in (0, 1, 2, 7, 12)],
        "sum": (total.numpy(), group.sum(own.float()).dtype == torch.float64, own.numpy()),
        "sums": group.sums(1, 0.5 * rank),
        "sum_array": group.sum_array(np.ones((2, 3))),
        "maximum": (group.maximum(-5.0 - rank), group.maximum(float("nan") if rank == group.size - 1 else 1.0)),
        "concatenate": group.concatenate(np.full((rank, 2), rank)),
        "gathered": group.gather_objects({"rank": rank}),
        "leader": group.from_leader([rank, "leader's"]),
    }


def untimed(row: dict[str, Any]) -> dict[str, Any]:
    """What no clock said, a distribution as so many numbers."""
    numbers = {f"return {i}": x for i, x in enumerate(row["collect/episode_returns"])}
    others = {key: value for key, value in row.items() if not key.startswith("time/") and not isinstance(value, tuple)}
    return others | numbers


def everything(group: Group) -> dict[str, Any]:
    """One program that uses all of the numerical core, in one start of the workers."""
    mine = group.share(11)
    actor, draw, later = PolicyActor(POLICY, THETA), Draw(7), Draw(7, 2)
    first = run_episodes(TASK, actor, later, mine, keep="states")
    batch, _, _ = SAMPLERS["single"](TASK, POLICY, THETA, draw, group)
    vine_batch, _, _ = SAMPLERS["vine"](TASK, POLICY, THETA, draw, group)
    trunks = run_episodes(TASK, actor, draw, group.share(5), keep="states")
    at, at_vine = (surrogate_at(POLICY, THETA, b, group) for b in (batch, vine_batch))
    v = torch.linspace(-1, 1, POLICY.n_parameters).double()
    found: dict[str, Any] = {
        "exchanges": exchanges(group),
        "initial_states": group.concatenate(SIM.reset(later.generators("initial_state", mine))),
        "first_states": group.concatenate(first.states[first.t == 0]),
        "noise": group.concatenate(policy_noise(POLICY.dist, later, "policy_noise", mine, 40).swapaxes(0, 1)),
        "lengths": group.concatenate(first.lengths),
        "rollout_set": group.concatenate(SAMPLERS["vine"].rollout_set(trunks, draw, group, 3)[0]),
        "vine_actions": group.concatenate(vine_batch.actions.numpy()),
        "gradient": [at.gradient.numpy(), at_vine.gradient.numpy()],
        "fisher": fisher_matrix(at, 1.0, draw, analytic_metric).product(v).numpy(),
    }
    for name, sampler in SAMPLERS.items():
        algorithm = PolicyUpdate(TASK, POLICY, sampler, trpo(), 7)
        state, rows = TrainingState(THETA, InputMap()), []
        for iteration in range(N_ITERATIONS):
            state, row = algorithm.iterate(replace(state, iteration=iteration), group)
            rows.append(untimed(row))
        found[name] = rows, state.theta.numpy()
    search = PopulationSearch(TASK, POLICY, Cem(8, 0.25, 0.1, 0.0, 0), 7)
    state, row = search.iterate(search.initial(), group)
    found["search"] = untimed(row), state.theta.numpy()
    return found


@cache
def results(size: int) -> list[dict[str, Any]]:
    return in_workers(size, everything)


@SIZES
def test_every_worker_knows_its_place_and_the_shares_are_everything_once(size: int):
    found = [r["exchanges"] for r in results(size)]
    assert [f["place"] for f in found] == [(rank, size, rank == 0) for rank in range(size)]
    for i, n in enumerate((0, 1, 2, 7, 12)):
        shares = [f["shares"][i] for f in found]
        assert [lane for share in shares for lane in share] == list(range(n))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@SIZES
def test_sums_maxima_and_what_is_gathered_are_the_same_everywhere(size: int):
    n_ones, ranks = size * (size + 1) / 2, sum(range(size))
    for rank, result in enumerate(results(size)):
        found = result["exchanges"]
        total, is_double, own = found["sum"]
        np.testing.assert_array_equal(total, n_ones * np.arange(4.0).reshape(2, 2))
        assert is_double
        np.testing.assert_array_equal(own, (rank + 1) * np.arange(4.0).reshape(2, 2))  # the argument is left alone
        assert found["sums"] == [size, 0.5 * ranks]
        np.testing.assert_array_equal(found["sum_array"], np.full((2, 3), size))
        assert found["maximum"] == (-5.0, np.inf)
        assert found["concatenate"].tolist() == [[r, r] for r in range(size) for _ in range(r)]
        assert found["gathered"] == [{"rank": r} for r in range(size)]
        assert found["leader"] == [0, "leader's"]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("what", ["initial_states", "first_states", "noise", "lengths"])
def test_the_number_of_workers_changes_no_random_number(size: int, what: str):
    for result in results(size):
        np.testing.assert_array_equal(result[what], results(1)[0][what])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("what", ["rollout_set", "vine_actions", "gradient", "fisher"])
def test_rollout_sets_gradients_and_fisher_products_differ_by_rounding_alone(size: int, what: str):
    for result in results(size):
        np.testing.assert_allclose(result[what], results(1)[0][what], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_first_iterations_have_the_same_statistics_to_a_millionth(size: int, sampler: str):
    expected_rows, expected_theta = results(1)[0][sampler]
    assert any(row["update/accepted"] for row in expected_rows)
    for rows, theta in (result[sampler] for result in results(size)):
        for row, expected in zip(rows, expected_rows, strict=True):
            assert row == {
                key: pytest.approx(value, rel=1e-6, abs=1e-6 if key in SMALL else 0)
                if isinstance(value, float)
                else value
                for key, value in expected.items()
            }
        np.testing.assert_allclose(theta, expected_theta, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [2, 3])
def test_a_population_is_shared_among_the_workers_and_searched_as_one(size: int):
    expected_row, expected_theta = results(1)[0]["search"]
    for row, theta in (result["search"] for result in results(size)):
        assert row == pytest.approx(expected_row, rel=1e-9)
        np.testing.assert_allclose(theta, expected_theta, rtol=1e-12)


@pytest.mark.parametrize("size", [2, 3])
def test_every_worker_holds_the_same_theta_bit_for_bit(size: int):
    for name in SAMPLERS:
        thetas = [result[name][1] for result in results(size)]
        assert all(np.array_equal(theta, thetas[0]) for theta in thetas)


@cache
def with_critic(size: int, small_batch: int) -> list[Any]:
    """Rows, θ, inputs and V's parameters after three iterations with a critic, on streams and on whole episodes."""
    config = planned("critic=mlp", "critic.hidden_sizes=[8]").critic
    policy = replace(POLICY, input_scale="running")

    def body(group: Group) -> list[Any]:
        found = []
        for sampler in (single(gamma=0.99, streams=5, steps_per_iteration=300), single(gamma=0.99, n_paths=7)):
            algorithm = PolicyUpdate(TASK, policy, sampler, trpo(), 0, config)
            state, rows = algorithm.initial(), []
            for i in range(N_ITERATIONS):
                state, row = algorithm.iterate(replace(state, iteration=i), group)
                rows.append(untimed(row))
            assert state.critic is not None and state.inputs is not None
            found.append((rows, state.theta.numpy(), state.inputs.mean, state.critic.theta.numpy()))
        return found

    before, algorithms.SMALL_BATCH = algorithms.SMALL_BATCH, small_batch
    try:
        return [body(Group())] if size == 1 else in_workers(size, body)
    finally:
        algorithms.SMALL_BATCH = before


@pytest.mark.parametrize("small_batch", [0, 10**6])
@pytest.mark.parametrize("size", [2, 3])
def test_with_a_critic_the_workers_together_and_the_leader_alone_learn_what_one_process_does(
    size: int, small_batch: int
):
    everybody, expected = with_critic(size, small_batch), with_critic(1, 0)[0]
    for found in everybody:
        for (rows, *arrays), (_, *leaders), (expected_rows, *expected_arrays) in zip(
            found, everybody[0], expected, strict=True
        ):
            for i, (row, expected_row) in enumerate(zip(rows, expected_rows, strict=True)):
                numbers = {key: x for key, x in expected_row.items() if not isinstance(x, str) and key not in SMALL}
                close = {"rel": 1e-4, "abs": 1e-4} if i == 0 else {"rel": 1e-2, "abs": 5e-2}  # V has single precision
                assert {key: row[key] for key in numbers} == pytest.approx(numbers, nan_ok=True, **close)
            for array, leader in zip(arrays, leaders, strict=True):
                np.testing.assert_array_equal(array, leader)
            for array, other in zip(arrays[:2], expected_arrays[:2], strict=True):
                np.testing.assert_allclose(array, other, rtol=1e-2, atol=1e-2)


def test_workers_without_a_lane_or_a_state_of_their_own_take_part():
    def body(group: Group) -> list[Any]:
        policy = mlp(Echo())
        theta, rows = policy.initial(np.random.default_rng(0)), []
        for sampler in (single(n_paths=2), vine(n_trunks=1, n_states=2), single(steps_per_iteration=3)):
            batch, stats, _ = sampler(Task(Echo(), 20), policy, theta, Draw(0), group)
            updated = trpo()(policy, theta, batch, Draw(0), group)
            rows.append((batch.n_states, stats["collect/episode_return"], updated.theta.numpy()))
        return rows

    alone = body(Group())
    for rows in in_workers(3, body):
        for (n, mean, theta), (expected_n, expected_mean, expected_theta) in zip(rows, alone, strict=True):
            assert n == expected_n and mean == pytest.approx(expected_mean)
            np.testing.assert_allclose(theta, expected_theta, rtol=1e-6, atol=1e-9)
