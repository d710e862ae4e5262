"""Laws of the cross-entropy method: it finds an optimum, keeps no hidden state, and follows the authors' schedule."""

import io

import numpy as np
import pytest

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.optimizers.base import Arrays
from trpo_cli.optimizers.cem import Cem, best_first

SETTINGS = {
    "population": 60,
    "elite_fraction": 0.1,
    "initial_variance": 0.1,
    "extra_variance": 0.01,
    "extra_iterations": 20,
}
TARGET = np.array([0.7, -1.3, 0.2, 0.0, 2.0])


def quadratic(thetas: np.ndarray) -> np.ndarray:
    return -np.square(thetas - TARGET) @ np.array([1.0, 3.0, 0.5, 2.0, 1.0])


def iterate(search: Cem, state: Arrays, n: int, rng: np.random.Generator) -> Arrays:
    for _ in range(n):
        thetas = search.ask(state, rng)
        state, _ = search.tell(state, thetas, quadratic(thetas))
    return state


def test_it_finds_the_optimum_of_a_quadratic():
    search = Cem(**SETTINGS)
    state = iterate(search, search.start(np.zeros(5)), 80, np.random.default_rng(0))
    np.testing.assert_allclose(search.mean(state), TARGET, atol=1e-3)


def test_going_on_from_stored_arrays_asks_the_same_bit_for_bit():
    search = Cem(**SETTINGS)
    state = iterate(search, search.start(np.zeros(5)), 18, np.random.default_rng(1))
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    stored = dict(np.load(file, allow_pickle=False))
    straight = iterate(search, state, 5, np.random.default_rng(2))
    resumed = iterate(search, stored, 5, np.random.default_rng(2))
    for name in straight:
        np.testing.assert_array_equal(straight[name], resumed[name])


def test_every_entry_of_the_state_is_an_array_and_tell_leaves_its_arguments_alone():
    search = Cem(**SETTINGS)
    state = search.start(np.zeros(5))
    thetas = search.ask(state, np.random.default_rng(3))
    for array in (*state.values(), thetas):
        array.flags.writeable = False
    after, _ = search.tell(state, thetas, quadratic(thetas))
    assert all(isinstance(array, np.ndarray) for array in (*state.values(), *after.values()))
    assert after["iteration"] == 1 and state["iteration"] == 0


def test_the_order_of_the_candidates_does_not_matter():
    search = Cem(**SETTINGS)
    state = search.start(np.zeros(5))
    thetas = search.ask(state, np.random.default_rng(4))
    returns = quadratic(thetas)
    order = np.random.default_rng(5).permutation(len(thetas))
    one, _ = search.tell(state, thetas, returns)
    other, _ = search.tell(state, thetas[order], returns[order])
    np.testing.assert_array_equal(one["mean"], other["mean"])
    np.testing.assert_array_equal(one["variance"], other["variance"])


def test_the_refit_on_a_hand_computed_example():
    search = Cem(
        population=4, elite_fraction=0.5, initial_variance=1.0, extra_variance=0.0, extra_iterations=0
    )  # the best two of [0], [1], [3], [7] by return are [3] and [7]: mean 5, variance 4
    thetas = np.array([[0.0], [1.0], [3.0], [7.0]])
    state, stats = search.tell(search.start(np.zeros(1)), thetas, np.array([1.0, 2.0, 10.0, 4.0]))
    assert state["mean"] == 5.0 and state["variance"] == 4.0
    assert stats["update/best_return"] == 10.0 and stats["update/elite_return"] == 7.0


@pytest.mark.parametrize(("iteration", "variance"), [(0, 0.11), (19, 0.11), (20, 0.1), (30, 0.1)])
def test_the_extra_variance_is_on_then_off_in_one_step(iteration: int, variance: float):
    search = Cem(**{**SETTINGS, "population": 20_000})
    state = {**search.start(np.zeros(3)), "iteration": np.array(iteration)}
    measured = search.ask(state, np.random.default_rng(6)).var()
    standard_error = variance * np.sqrt(2 / 60_000)
    assert abs(measured - variance) < 4 * standard_error


def test_a_return_that_is_not_finite_ranks_worst():
    returns = np.array([np.nan, 1.0, np.inf, 3.0, -np.inf, 2.0])
    assert list(best_first(returns)) == [3, 5, 1, 0, 2, 4]
    search = Cem(**{**SETTINGS, "population": 6, "elite_fraction": 0.5})
    thetas = np.arange(6.0)[:, None]
    state, stats = search.tell(search.start(np.zeros(1)), thetas, returns)
    assert state["mean"] == 3.0  # of candidates 3, 5 and 1
    assert stats["update/n_not_finite"] == 3 and stats["update/best_return"] == 3.0
    few = np.where(returns == 2.0, np.nan, returns)
    assert search.tell(search.start(np.zeros(1)), thetas, few)[1]["update/elite_return"] == 2.0  # of 3 and 1


def test_a_population_without_one_finite_return_ends_the_run():
    search = Cem(**SETTINGS)
    state = search.start(np.zeros(5))
    thetas = search.ask(state, np.random.default_rng(7))
    with pytest.raises(RunError, match="60 candidates"):
        search.tell(state, thetas, np.full(60, np.nan))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("population", 1),
        ("elite_fraction", 0.0),
        ("elite_fraction", 1.5),
        ("elite_fraction", 0.02),  # one candidate of 60
        ("initial_variance", 0.0),
        ("initial_variance", float("nan")),
        ("extra_variance", -0.1),
        ("extra_iterations", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: float):
    with pytest.raises(ConfigError, match=rf"optimizer\.{field}={value}"):
        Cem(**{**SETTINGS, field: value})
