"""Laws of the words of the command line."""

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from trpo_cli.cli.words import as_typed, swept_keys


def test_the_keys_that_are_swept():
    words = ["-m", "seed=0,1", "workers=1", "+env.x=range(3)", "env=glob(*)", "a=[1,2]", "b='1,2'", "nonsense", "c=1,"]
    assert swept_keys(words) == {"seed", "env.x", "env"}


def values(word: str) -> list[str]:
    """The value in each job of a sweep over ``word``, as Hydra makes the jobs."""
    parser = OverridesParser.create()
    ((*jobs,),) = BasicSweeper.split_arguments([parser.parse_override(word)], None)
    return [str(parser.parse_override(job).value()).strip("\"'") for (job,) in jobs]


@pytest.mark.parametrize("key", ["name", "+outputs", "++name"])
@pytest.mark.parametrize(
    "text", ["1.10", "1_1_1", "1e5", "0.50", "true", "Inf", "-0", "0012", "a-1.10", "1.10/2", "a b"]
)
def test_the_name_of_a_folder_is_what_was_typed(key: str, text: str):
    word = as_typed(f"{key}={text}")
    assert values(word) == [text]
    assert as_typed(word) == word  # the command that is printed is read in the same way


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1.1,1.10", ["1.1", "1.10"]),
        ("1.10, 1e5", ["1.10", "1e5"]),
        ("choice(1.10,true,b)", ["1.10", "true", "b"]),
        ("'1,2.0',2.0", ["1,2.0", "2.0"]),
        ("range(2)", ["0", "1"]),
        ("a,b", ["a", "b"]),
    ],
)
def test_names_in_a_sweep_are_what_was_typed(text: str, names: list[str]):
    assert values(as_typed(f"name={text}")) == names


@pytest.mark.parametrize(
    "word", ["-m", "seed=007", "optimizer.kl_limit=0.10", "name=null", "name=", "name=a!b", "~name"]
)
def test_other_words_stay_as_they_are(word: str):
    assert as_typed(word) == word
