"""A whole number may be written as 1e6, where a key takes whole numbers only."""

import pytest

from trpo_cli.cli.whole_numbers import WHOLE, with_whole_numbers


def test_the_keys_are_the_roots_that_take_whole_numbers():
    assert {"seed", "iterations", "total_steps", "step_limit", "checkpoint_every", "max_refused"} == WHOLE


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("total_steps=1e6", "total_steps=1000000"),
        ("total_steps=2.5E+3", "total_steps=2500"),
        ("seed=1.0", "seed=1"),
        ("seed=1e1,2,3.0", "seed=10,2,3"),
        ("+seed=1e1", "+seed=10"),
        *((word, word) for word in ("seed=007", "seed=1.5", "seed=1e-1", "seed=1e30", "seed=range(1e1)", "seed=")),
        *((word, word) for word in ("name=1e5", "path_scale=1.0", "sampler.n_paths=1e2", "--cfg", "seed", "env=1e1")),
    ],
)
def test_only_whole_numbers_of_these_keys_are_rewritten(word: str, read: str):
    assert with_whole_numbers([word]) == [read]
