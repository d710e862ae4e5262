"""The words of the command line, ``key=value``: their keys, and their values as they were typed."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException

from trpo_cli.errors import ConfigError

CONTINUE = "continue"  # key whose value is the directory of a run to go on with
KWARGS = "env.kwargs"  # key of a dictionary, to which any key may be added
FOLDERS = ("name", "outputs")  # keys whose values are names of folders, even if they look like numbers
_PIECE = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,()'"]+"""  # of a list: quoted, or between commas


def swept_keys(words: Sequence[str]) -> set[str]:
    """Keys of the command-line words that give several values."""
    parser, keys = OverridesParser.create(), set()
    for word in words:
        try:
            override = parser.parse_override(word)
        except HydraException:
            continue  # a flag such as -m, or a word that Hydra will refuse
        if override.is_sweep_override():
            keys.add(override.key_or_group)
    return keys


def run_to_continue(words: Sequence[str]) -> str | None:
    """The directory in ``continue=DIRECTORY``; None if no word is one."""
    found = [word.partition("=")[2] for word in words if key_of(word) == CONTINUE]
    if len(found) > 1:
        raise ConfigError(f"{CONTINUE}= stands {len(found)} times; go on with one run at a time")
    return found[0] if found else None


def own_folders(words: Sequence[str]) -> list[Path]:
    """The folders of ``--config-dir``, whose options stand beside those of ``conf/``."""
    found = [value for word, value in pairwise(words) if word in ("--config-dir", "-cd")]
    found += [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    return [Path(folder) for folder in found]


def key_of(override: str) -> str:
    """The key that ``key=value`` or ``+key=value`` sets."""
    return override.lstrip("+").partition("=")[0]


def quote(value: str) -> str:
    """A word with any characters as the value of an override: ``"train/workers=2"``."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def as_typed(word: str) -> str:
    """The word as Hydra has to read it: arguments of an environment may be new ones, and names of folders are words.

    A name gets quotes if Hydra would read it as a number or a truth value.

    Without them ``name=1.10`` would be the folder 1.1, and the run there another one. The same for each of several
    values: ``name=1.1,1.10``.
    """
    key, _, text = word.partition("=")
    if key == KWARGS or key.startswith(f"{KWARGS}."):
        return f"++{word}"
    if key.lstrip("+") not in FOLDERS:
        return word
    if isinstance(_value(text), ChoiceSweep):
        choices = re.sub(r"^choice\((.*)\)$", r"\1", text)  # inside a function Hydra takes quotes away
        return f"{key}={re.sub(_PIECE, lambda piece: _quoted_if_rewritten(piece[0]), choices)}"
    return f"{key}={_quoted_if_rewritten(text)}"


def _quoted_if_rewritten(text: str) -> str:
    return quote(text.strip()) if isinstance(_value(text), bool | int | float) else text


def _value(text: str) -> object:
    """What Hydra reads; None if it cannot read it."""
    try:
        return OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:
        return None
