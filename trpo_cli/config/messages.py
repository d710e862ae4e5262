"""One sentence for what OmegaConf refuses."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

from omegaconf.errors import OmegaConfBaseException


def unknown_key(key: str, known: list[str], elsewhere: Sequence[str] = ()) -> str:
    """One sentence about a key that does not exist, with the nearest key that can be set.

    known: the keys of the same section, which are listed if none is near
    """
    names = {name.rpartition(".")[2]: name for name in [*elsewhere, *known]}
    near = get_close_matches(key.rpartition(".")[2], names, 1, 0.5)
    hint = f"did you mean {names[near[0]]}?" if near else "known here: " + ", ".join(known)
    return f"{key} does not exist; {hint}"


# What OmegaConf says, and what it means for the person who wrote the value.
_COMPLAINTS = {
    "could not be converted to Integer": "is not a whole number",
    "could not be converted to Float": "is not a number",
    "is not a valid bool": "must be true or false",
    "is not Optional|Incompatible value 'None'|NoneType is not a subclass": "is not possible: a value is needed",
    "is not a ListConfig": "is not a list; write {key}=[{value}]",
    "Cannot convert '.*' to string": "is not a word",
    "Cannot assign .* to Dict": "is not a section of keys; write {key}={{name: value}}",
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
            return f"{key}={value} {meant.format(key=key, value=value)}"
    if "Cannot merge" in reason:
        return f"{key} cannot change from a list to a section of keys, or from a section of keys to a list"
    if "does not support deletion" in reason:
        return f"{key} cannot be removed; set {key}=… to another value"
    if found := re.search("Interpolation key '(.*)' not found", reason):
        return f"{key} refers to ${{{found.group(1)}}}, which does not exist"
    return f"{key}: {reason}"


def to_word(value: object) -> str:
    """A value as it is written on the command line."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))
