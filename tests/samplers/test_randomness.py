"""The law of randomness: a lane's numbers depend on (seed, purpose, iteration, lane) and on nothing else."""

import numpy as np
import pytest
from toy_sims import Echo, mlp

from trpo_cli.samplers.episodes import policy_noise
from trpo_cli.samplers.randomness import PURPOSES, Draw


def test_a_generator_is_a_function_of_its_four_keys():
    first = Draw(5, 2).generator("policy_noise", 1).random(3)
    Draw(5, 2).generator("rollout_set").random(100)
    np.testing.assert_array_equal(first, Draw(5, 2).generator("policy_noise", 1).random(3))
    # The keys in this order, the purpose by its place: what stored runs were drawn with.
    stored = np.random.Generator(np.random.PCG64((5, 3, 2, 1)))
    np.testing.assert_array_equal(first, stored.random(3))


def test_no_purpose_ever_changes_its_number():
    names = ["initial_policy", "input_range", "initial_state", "policy_noise", "rollout_set", "branch_action"]
    names += ["branch_noise", "fisher_sample", "candidates", "evaluation", "evaluation_start"]
    names += ["initial_critic", "critic_sample"]
    assert {name: number for number, name in enumerate(names)}.items() <= PURPOSES.items()


def test_every_key_counts_and_no_two_trade_places():
    keys = [(s, p, i, n) for s in range(3) for p in PURPOSES for i in range(3) for n in range(3)]
    drawn = {tuple(Draw(s, i).generator(p, n).integers(2**62, size=2)) for s, p, i, n in keys}
    assert len(drawn) == len(keys)


def test_an_unknown_purpose_is_refused():
    with pytest.raises(KeyError, match="noise"):
        Draw(0).generator("noise")


def test_a_lane_does_not_depend_on_the_group_it_is_drawn_in():
    all_of_them = [rng.random() for rng in Draw(1, 4).generators("candidates", range(8))]
    assert [rng.random() for rng in Draw(1, 4).generators("candidates", range(3, 6))] == all_of_them[3:6]
    dist, draw = mlp(Echo()).dist, Draw(1, 4)
    noise = policy_noise(dist, draw, "policy_noise", range(8), 10)
    np.testing.assert_array_equal(policy_noise(dist, draw, "policy_noise", range(3, 6), 7), noise[:7, 3:6])
    assert len(np.unique(noise)) == noise.size
