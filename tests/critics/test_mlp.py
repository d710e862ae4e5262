"""The fully connected critic: its units, its fit, and that the number of workers does not matter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_batches import SPACES, in_workers
from toy_sims import mlp

from trpo_cli.critics.base import CriticState, Value
from trpo_cli.critics.mlp import MlpCritic
from trpo_cli.critics.value_network import ValueNetwork
from trpo_cli.errors import ConfigError
from trpo_cli.parallel.group import Group

RNG = np.random.default_rng(0)
INPUTS = torch.from_numpy(RNG.standard_normal((300, 3)).astype(np.float32))
TARGETS = 1000 + 50 * np.sin(INPUTS[:, 0].numpy().astype(float)) + 20 * INPUTS[:, 1].numpy()


def config(**changes: Any) -> MlpCritic:
    numbers = {"hidden_sizes": (16,), "nonlinearity": "tanh", "gae_lambda": 0.95, "least_advantage": 0.001, "steps": 3}
    numbers |= {"advantage_memory": 0.9}
    return MlpCritic(**{**numbers, "cg_iterations": 10, "damping": 0.01, "target_memory": 0.9, **changes})


def critic(**changes: Any) -> ValueNetwork:
    return config(**changes).build((3,))


def fitted(times: int, part: slice = slice(None), group: Group | None = None) -> tuple[CriticState, dict[str, float]]:
    value = critic()
    state, stats = value.initial(np.random.default_rng(1)), {}
    for _ in range(times):
        state, stats = value.fit(state, INPUTS[part], TARGETS[part], group or Group())
    return state, stats


def test_it_learns_targets_far_from_zero_and_says_how_much_it_explained_before_each_fit():
    _, first = fitted(1)
    state, later = fitted(15)
    assert first["critic/explained_variance"] == pytest.approx(0, abs=0.05)
    assert later["critic/explained_variance"] > 0.97 and later["critic/loss"] < 0.1 * first["critic/loss"]
    assert np.corrcoef(critic().values(state, INPUTS), TARGETS)[0, 1] > 0.98


def test_new_units_leave_the_value_function_as_it_is():
    state, _ = fitted(3)
    moved = critic().in_new_units(state, mean=-300.0, variance=7.0)
    assert (moved.mean, moved.std) != (state.mean, state.std)
    np.testing.assert_allclose(critic().values(moved, INPUTS), critic().values(state, INPUTS), rtol=1e-5)


def test_the_first_units_are_the_first_batchs_and_later_ones_move_towards_new_batches():
    state, _ = fitted(1)
    assert state.mean == pytest.approx(TARGETS.mean()) and state.std == pytest.approx(TARGETS.std())
    moved = critic().in_new_units(state, mean=state.mean + 10, variance=state.std**2)
    assert moved.mean == pytest.approx(state.mean + 1)


def test_running_units_are_those_of_the_weighted_first_and_second_moments():
    value = critic(target_memory=0.75)
    state = CriticState(value.initial(np.random.default_rng(0)).theta, mean=2.0, std=3.0)
    moved = value.in_new_units(state, mean=4.0, variance=25.0)
    assert moved.mean == 2.5 and moved.std**2 == pytest.approx(0.75 * (9 + 4) + 0.25 * (25 + 16) - 2.5**2)


@pytest.mark.parametrize(("mean", "std", "unit"), [(1e6, 2.0, 2.0), (0.0, 1e-12, 1e-12), (0.1, 0.0, 1.0)])
def test_any_deviation_but_zero_is_a_unit(mean: float, std: float, unit: float):
    value = critic()
    moved = value.in_new_units(value.initial(np.random.default_rng(0)), mean, std**2)
    assert moved.std == pytest.approx(unit)


def test_targets_that_stay_the_same_leave_no_variance_below_zero():
    theta = critic().initial(np.random.default_rng(0)).theta
    for mean in RNG.uniform(-9, 9, 50):  # whose squares round up and down
        assert critic().in_new_units(CriticState(theta, mean, 1e-12), mean, 0.0).std > 0


def test_after_a_jump_of_the_targets_the_values_follow_them_in_whatever_units():
    value, (state, _) = critic(), fitted(3)
    state, stats = value.fit(state, INPUTS, TARGETS + 200, Group())
    assert value.values(state, INPUTS).mean() == pytest.approx((TARGETS + 200).mean(), abs=10)
    assert stats["critic/explained_variance"] > 0.5  # a constant that is wrong everywhere is not counted
    _, tiny = value.fit(value.initial(np.random.default_rng(1)), INPUTS, 1e-4 * TARGETS, Group())
    assert tiny["critic/explained_variance"] == pytest.approx(0, abs=0.05)


def test_a_fit_does_not_depend_on_the_number_of_workers():
    def share(group: Group) -> Any:
        mine = group.share(len(INPUTS))
        state, stats = fitted(4, slice(mine.start, mine.stop), group)
        return critic().values(state, INPUTS), list(stats.values())

    alone, numbers = share(Group())
    for other, other_numbers in in_workers(2, share):
        np.testing.assert_allclose(other, alone, rtol=1e-4)
        assert other_numbers == pytest.approx(numbers, rel=1e-3)


def test_targets_that_are_all_the_same_are_no_trouble():
    value = critic()
    state, stats = value.fit(value.initial(np.random.default_rng(0)), INPUTS, np.full(300, 5.0), Group())
    assert np.isnan(stats["critic/explained_variance"])
    np.testing.assert_allclose(value.values(state, INPUTS), 5.0, atol=0.05)


@pytest.mark.parametrize("mean", [0.0, 1e9])
def test_units_join_the_targets_so_far_and_the_new_ones_however_large_they_are(mean: float):
    value = critic(target_memory=0.75)
    before = replace(value.initial(np.random.default_rng(0)), mean=mean, std=20.0)
    after = value.in_new_units(before, mean + 40.0, 100.0)
    both = np.concatenate([np.tile([mean - 20, mean + 20], 3), [mean + 30, mean + 50]])
    assert (after.mean, after.std) == (pytest.approx(both.mean()), pytest.approx(both.std()))


def test_a_state_survives_a_checkpoint(tmp_path: Path):
    state, _ = fitted(2)
    torch.save(state.to_dict(), tmp_path / "c.pt")
    again = CriticState.from_dict(torch.load(tmp_path / "c.pt", weights_only=True))
    assert torch.equal(again.theta, state.theta) and (again.mean, again.std) == (state.mean, state.std)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"hidden_sizes": (0,)}, "hidden_sizes"),
        ({"nonlinearity": "sigmoid"}, "nonlinearity"),
        ({"gae_lambda": 1.5}, "gae_lambda"),
        ({"least_advantage": -0.1}, "least_advantage"),
        ({"advantage_memory": 1.0}, "advantage_memory"),
        ({"steps": 0}, "steps"),
        ({"cg_iterations": 0}, "cg_iterations"),
        ({"damping": 0.0}, "damping"),
        ({"damping": np.inf}, "damping"),
        ({"target_memory": 1.0}, "target_memory"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(changes: dict[str, Any], key: str):
    with pytest.raises(ConfigError, match=rf"^critic\.{key}="):
        config(**changes)


def test_a_fresh_network_has_the_layers_asked_for_and_a_value_near_zero():
    value = config(hidden_sizes=(16, 8)).build((3,))
    (w1, _), (w2, _), (w3, _) = value.network.layers(value.initial(np.random.default_rng(0)).theta)
    assert (w1.shape, w2.shape) == ((3, 16), (16, 8))
    for weights, norm in ((w1, 1.0), (w2, 1.0), (w3, 0.01)):
        torch.testing.assert_close(weights.norm(dim=0), torch.full((weights.shape[1],), norm))


def test_it_takes_the_inputs_of_a_policy_in_double_precision_and_no_inputs_at_all():
    state, policy = fitted(1)[0], mlp(SPACES["gaussian"])
    value, obs = Value(critic(), state, policy), INPUTS.double().numpy()
    np.testing.assert_array_equal(value(obs), critic().values(state, INPUTS))
    assert value(obs[:0]).shape == (0,)


def test_images_are_refused():
    with pytest.raises(ConfigError, match="critic=conv"):
        config().build((4, 52, 40))
