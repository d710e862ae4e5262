"""The convolutional critic: it learns what an image shows, on a part of the batch, and refuses what is no image."""

from typing import Any

import numpy as np
import pytest
import torch
from compose import planned

from trpo_cli.critics.conv import ConvCritic
from trpo_cli.errors import ConfigError
from trpo_cli.parallel.group import Group
from trpo_cli.training.algorithms import PolicyUpdate

SHAPE = (2, 12, 10)
NUMBERS: dict[str, Any] = {
    **{"filters": (4,), "kernel_size": 4, "stride": 2, "hidden_sizes": (8,), "nonlinearity": "tanh"},
    **{"input_centre": 128.0, "input_half_range": 128.0, "gae_lambda": 0.9, "least_advantage": 0.001},
    **{"advantage_memory": 0.9},
    **{"steps": 3, "cg_iterations": 10, "damping": 0.01, "max_states": 50, "target_memory": 0.9},
}


def test_it_learns_where_a_bright_block_is():
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 7, 400)
    images = np.zeros((400, *SHAPE), np.uint8)
    for image, column in zip(images, columns, strict=True):
        image[:, 3:8, column : column + 3] = 255
    targets = 30.0 + 5.0 * columns
    value = ConvCritic(**NUMBERS).build(SHAPE)
    state = value.initial(np.random.default_rng(1))
    assert value.network.output_layer(state.theta)[0].norm() == pytest.approx(0.01)
    for _ in range(8):
        state, stats = value.fit(state, torch.from_numpy(images[:300]), targets[:300], Group())
    assert stats["critic/explained_variance"] > 0.95
    found = value.values(state, torch.from_numpy(images[300:]))
    assert np.corrcoef(found, targets[300:])[0, 1] > 0.98 and abs(found.mean() - targets[300:].mean()) < 3


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"filters": ()}, r"critic\.filters=\[\]"),
        ({"stride": 0}, r"critic\.stride=0"),
        ({"nonlinearity": "softplus"}, r"critic\.nonlinearity=softplus"),
        ({"max_states": 0}, r"critic\.max_states=0"),
        ({"gae_lambda": 2}, r"critic\.gae_lambda=2"),
        ({"damping": 0.0}, r"critic\.damping=0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(changes: dict[str, Any], named: str):
    with pytest.raises(ConfigError, match=named):
        ConvCritic(**{**NUMBERS, **changes})


def test_each_critic_says_which_one_the_task_needs():
    with pytest.raises(ConfigError, match=r"critic=conv needs images.*\[4\]; use critic=mlp"):
        planned("critic=conv")
    with pytest.raises(ConfigError, match=r"critic=mlp cannot see images.*use critic=conv"):
        planned("env=atari/pong", "critic=mlp")
    with pytest.raises(ConfigError, match=r"critic\.filters=\[4\]: an image of 3 × 3 is too small"):
        ConvCritic(**NUMBERS).build((1, 3, 3))


def test_a_fit_uses_at_most_so_many_states_of_a_batch(monkeypatch: pytest.MonkeyPatch):
    words = ("env=atari/pong", "critic=conv", "critic.max_states=30", "sampler.steps_per_iteration=80", "step_limit=40")
    plan = planned(*words)
    algorithm = plan.algorithm
    assert isinstance(algorithm, PolicyUpdate) and algorithm.critic is not None
    seen = []
    fit = type(algorithm.critic).fit

    def watched(self: Any, state: Any, inputs: torch.Tensor, *rest: Any) -> Any:
        seen.append((len(inputs), inputs.dtype))
        return fit(self, state, inputs, *rest)

    monkeypatch.setattr(type(algorithm.critic), "fit", watched)
    state, row = algorithm.iterate(algorithm.initial(), Group())
    assert seen == [(30, torch.uint8)] and row["collect/sim_steps"] == 80
    assert np.isfinite(row["critic/loss"]) and state.critic is not None
