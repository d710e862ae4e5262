"""Laws of CMA-ES as a value: it is the package's search, and it keeps nothing outside its arrays."""

import io
import os
from pathlib import Path

import cma
import numpy as np
import pytest
from cma.sigma_adaptation import CMAAdaptSigmaCSA

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.optimizers.base import Arrays
from trpo_cli.optimizers.cma import Cma

SETTINGS = {"population": 24, "initial_std": 0.1, "max_parameters": 400}


def quadratic(thetas: np.ndarray) -> np.ndarray:
    return -np.square(thetas - 0.7) @ np.logspace(0, 2, thetas.shape[1])


def iterate(search: Cma, state: Arrays, n: int, rng: np.random.Generator) -> Arrays:
    for _ in range(n):
        thetas = search.ask(state, rng)
        state, _ = search.tell(state, thetas, quadratic(thetas))
    return state


def test_it_finds_the_optimum_of_a_quadratic():
    search = Cma(**SETTINGS)
    state = iterate(search, search.start(np.zeros(8)), 120, np.random.default_rng(0))
    np.testing.assert_allclose(search.mean(state), np.full(8, 0.7), atol=1e-4)


@pytest.mark.parametrize("dimension", [6, 40, 310])  # the package waits between decompositions, more so in 310
def test_it_asks_what_the_package_asks_bit_for_bit(dimension: int):
    search = Cma(**SETTINGS)
    state, rng, same_rng = search.start(np.zeros(dimension)), np.random.default_rng(1), np.random.default_rng(1)
    options = {"popsize": 24, "AdaptSigma": CMAAdaptSigmaCSA, "verbose": -9, "verb_log": 0}
    options["randn"] = lambda *shape: same_rng.standard_normal(shape)
    package = cma.CMAEvolutionStrategy(np.zeros(dimension), 0.1, options)
    for _ in range(12):
        ours, theirs = search.ask(state, rng), package.ask()
        np.testing.assert_array_equal(ours, theirs)
        state, _ = search.tell(state, ours, quadratic(ours))
        package.tell(theirs, list(-quadratic(ours)))


def test_an_ill_conditioned_covariance_is_sampled_in_the_coordinates_that_it_has():
    search = Cma(**SETTINGS)
    scales = np.logspace(0, -6, 6)
    correlation = np.corrcoef(np.random.default_rng(14).standard_normal((6, 40)))
    covariance = scales[:, None] * correlation * scales
    values, vectors = np.linalg.eigh(covariance)
    state = search.start(np.zeros(6)) | {"C": covariance, "B": vectors, "D": np.sqrt(values)}
    thetas, noise = search.ask(state, np.random.default_rng(15)), np.random.default_rng(15).standard_normal((24, 6))
    np.testing.assert_allclose(thetas, 0.1 * (noise * np.sqrt(values)) @ vectors.T, rtol=1e-9)


def test_going_on_from_stored_arrays_asks_the_same_bit_for_bit():
    search = Cma(**SETTINGS)
    state = iterate(search, search.start(np.zeros(40)), 7, np.random.default_rng(2))
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    stored = dict(np.load(file, allow_pickle=False))
    straight = iterate(search, state, 5, np.random.default_rng(3))
    resumed = iterate(search, stored, 5, np.random.default_rng(3))
    for name in straight:
        np.testing.assert_array_equal(straight[name], resumed[name])


def test_every_entry_of_the_state_is_an_array_and_ask_and_tell_leave_it_alone():
    search = Cma(**SETTINGS)
    state = iterate(search, search.start(np.zeros(6)), 2, np.random.default_rng(4))
    for array in state.values():
        assert isinstance(array, np.ndarray)
        array.flags.writeable = False
    thetas = search.ask(state, np.random.default_rng(5))
    thetas.flags.writeable = False
    search.tell(state, thetas, quadratic(thetas))


def test_the_order_of_the_candidates_does_not_matter():
    search = Cma(**SETTINGS)
    state = iterate(search, search.start(np.zeros(6)), 3, np.random.default_rng(6))
    thetas = search.ask(state, np.random.default_rng(7))
    returns = quadratic(thetas)
    order = np.random.default_rng(8).permutation(len(thetas))
    one, _ = search.tell(state, thetas, returns)
    other, _ = search.tell(state, thetas[order], returns[order])
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_only_the_ranking_of_the_returns_matters():
    search = Cma(**SETTINGS)
    state = search.start(np.zeros(6))
    thetas = search.ask(state, np.random.default_rng(9))
    one, _ = search.tell(state, thetas, quadratic(thetas))
    other, _ = search.tell(state, thetas, np.exp(quadratic(thetas)))
    np.testing.assert_array_equal(one["C"], other["C"])


def test_a_return_that_is_not_finite_ranks_worst():
    search = Cma(**SETTINGS)
    state = search.start(np.zeros(6))
    thetas = search.ask(state, np.random.default_rng(10))
    returns = quadratic(thetas)
    worst = np.argsort(returns)[:3]
    spoilt = returns.copy()
    spoilt[worst] = [np.nan, np.inf, -np.inf]
    one, _ = search.tell(state, thetas, returns)
    other, stats = search.tell(state, thetas, spoilt)
    np.testing.assert_array_equal(one["mean"], other["mean"])
    assert stats["update/n_not_finite"] == 3 and stats["update/best_return"] == returns.max()
    with pytest.raises(RunError, match="24 candidates"):
        search.tell(state, thetas, np.full(24, np.nan))


def test_it_prints_nothing_writes_nothing_and_leaves_the_global_generator_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    before = np.random.get_state()[1].copy()
    search = Cma(**SETTINGS)
    state = iterate(search, search.start(np.zeros(6)), 5, np.random.default_rng(11))
    flat, _ = search.tell(state, search.ask(state, np.random.default_rng(12)), np.zeros(24))
    assert np.isfinite(search.ask(flat, np.random.default_rng(13))).all()
    assert capfd.readouterr() == ("", "")
    assert os.listdir(tmp_path) == []
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("dimension", [1, 401])
def test_a_dimension_it_cannot_search_is_refused(dimension: int):
    with pytest.raises(ConfigError, match=rf"max_parameters=400 .* has {dimension};"):
        Cma(**SETTINGS).start(np.zeros(dimension))


@pytest.mark.parametrize(
    ("field", "value"),
    [("population", 3), ("initial_std", 0.0), ("initial_std", float("inf")), ("max_parameters", 1)],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: float):
    with pytest.raises(ConfigError, match=rf"optimizer\.{field}={value}"):
        Cma(**{**SETTINGS, field: value})
