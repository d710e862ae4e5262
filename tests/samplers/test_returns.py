"""Discounted sums of rewards, by hand."""

import numpy as np

from trpo_cli.samplers.returns import discounted_sums


def test_discounted_sums_by_hand():
    rewards = np.array([[1.0, 0.0], [2.0, 4.0], [4.0, 0.0]])
    np.testing.assert_array_equal(discounted_sums(rewards, 0.5), [[3.0, 2.0], [4.0, 4.0], [4.0, 0.0]])
    np.testing.assert_array_equal(discounted_sums(rewards, 1.0)[0], rewards.sum(0))
    assert discounted_sums(np.zeros((0, 3)), 0.9).shape == (0, 3)
