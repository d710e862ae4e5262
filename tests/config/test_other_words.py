"""Words of other programs: each leads to a key that some configuration has."""

from dataclasses import fields

import pytest
from compose import CONF, options

from trpo_cli.cli.evaluate import Request
from trpo_cli.cli.messages import _keys
from trpo_cli.config.messages import nearest_keys, unknown_key
from trpo_cli.config.other_words import SAME, names_here
from trpo_cli.config.schema import GROUPS, Eval, Root

KEYS = (
    {field.name for field in fields(Root)}
    | {f"eval.{field.name}" for field in fields(Eval)}
    | {key for group in GROUPS for option in options(group) for key in _keys(CONF, group, option)}
)
OF_EVALUATION = set(Request.__dataclass_fields__)


def test_every_word_leads_to_a_key_that_there_is():
    assert set(SAME) <= KEYS | OF_EVALUATION


def test_a_word_is_no_key_here_that_means_something_else():
    last_parts = {key.rpartition(".")[2]: key for key in KEYS if not key.startswith("eval.")}
    for key, words in SAME.items():
        assert all(last_parts.get(word, key) == key for word in words.split()), key


@pytest.mark.parametrize(
    ("key", "can_be_set", "near"),
    [
        ("max_kl", ["optimizer.kl_limit", "optimizer.max_backtracks"], ["optimizer.kl_limit"]),
        ("optimizer.delta", ["optimizer.kl_limit", "optimizer.damping"], ["optimizer.kl_limit"]),
        ("num_envs", ["workers", "sampler.streams"], ["workers", "sampler.streams"]),
        ("num_envs", ["workers"], ["workers"]),
        ("kl_limt", ["optimizer.kl_limit", "optimizer.kl_slack"], ["optimizer.kl_limit"]),
        ("step_limit", ["step_limit", "mine.step_limit"], ["step_limit"]),
        ("video", ["env.id", "seed"], []),
        ("max_rounds", ["optimizer.max_backtracks"], []),
    ],
)
def test_the_same_comes_before_the_nearest_and_nothing_is_guessed(key: str, can_be_set: list[str], near: list[str]):
    assert nearest_keys(key, can_be_set) == near


def test_the_sentence_names_every_key_that_means_the_same():
    assert unknown_key("n_envs", ["workers", "sampler.streams"]) == (
        "n_envs does not exist; did you mean workers or sampler.streams?"
    )
    assert names_here("lr") == [] and names_here("optimizer.MAX_KL") == ["optimizer.kl_limit"]
