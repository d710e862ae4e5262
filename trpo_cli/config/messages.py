"""One sentence for what OmegaConf refuses."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

from omegaconf.errors import OmegaConfBaseException

from trpo_cli.config.other_words import names_here

LARGEST = 2**53  # every smaller whole number is exact as a real number
SIMILAR = 0.75  # of two keys, by difflib's ratio; less is a guess


def unknown_key(key: str, known: list[str], elsewhere: Sequence[str] = ()) -> str:
    """One sentence about a key that does not exist, with the key that can be set and means the same or is nearest.

    known: the keys of the same section, which are listed if none is near
    """
    near = nearest_keys(key, [*elsewhere, *known])
    hint = f"did you mean {' or '.join(near)}?" if near else "known here: " + ", ".join(known)
    return f"{key} does not exist; {hint}"


def nearest_keys(key: str, can_be_set: Sequence[str]) -> list[str]:
    """The keys that mean what ``key`` means in other programs, or the one whose last part is written most like its."""
    if same := [name for name in names_here(key) if name in can_be_set]:
        return same
    names = {name.rpartition(".")[2]: name for name in reversed(can_be_set)}  # of equal last parts the first
    return [names[last] for last in get_close_matches(key.rpartition(".")[2], names, 1, SIMILAR)]


# What OmegaConf says, and what it means for the person who wrote the value.
_COMPLAINTS = {
    "could not be converted to Integer": "is not a whole number",
    "could not be converted to Float": "is not a number",
    "is not a valid bool": "must be true or false",
    "is not Optional|Incompatible value 'None'|NoneType is not a subclass": "is not possible: a value is needed",
    "is not a ListConfig": "is not a list; write '{key}=[{value}]'",
    "Cannot convert '.*' to string": "is not a word",
    "Cannot assign .* to Dict": "is not a section of keys; write '{key}={{name: value}}'",
    "is not a subclass of": "is not a section of keys; set {key}.…=… for each key",
}


def explain_value(error: OmegaConfBaseException, prefix: str = "") -> str:
    """One sentence about a value that OmegaConf refused."""
    key = str(error.full_key or error.key or "")
    if prefix and not key.startswith(prefix):
        key = f"{prefix}.{key}" if key else prefix
    reason = str(error.msg or error).splitlines()[0].rstrip(".")
    if "MISSING" in type(error).__name__.upper() or "missing mandatory value" in reason.lower():
        return f"{key} has no value; set {key}=…"
    for said, meant in _COMPLAINTS.items():
        if re.search(said, reason) and not reason.startswith("While dereferencing"):
            value = to_word(error.value)
            instead = f"; write {error.value:.0f}" if is_whole(error.value) else ""
            return f"{key}={value} {meant.format(key=key, value=value)}{instead}"
    if "Cannot merge" in reason:
        return f"{key} cannot change from a list to a section of keys, or from a section of keys to a list"
    if "does not support deletion" in reason:
        return f"{key} cannot be removed; set {key}=… to another value"
    if found := re.search("Interpolation key '(.*)' not found", reason):
        return f"{key} refers to ${{{found.group(1)}}}, which does not exist"
    return f"{key}: {reason}"


def is_whole(value: object) -> bool:
    """True for a real number that is whole, such as 1e4, and not so large that its last digits are unknown."""
    return isinstance(value, float) and value.is_integer() and abs(value) < LARGEST


def to_word(value: object) -> str:
    """A value as it is written on the command line."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))
