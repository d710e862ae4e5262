"""Names of the files of a run directory, and what every reader needs. No torch is imported, so reports are quick."""

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

PROGRESS = "progress.jsonl"
DESCRIPTION = "run.json"
DONE = "done.json"


def last_row(directory: Path) -> dict[str, Any] | None:
    """Return the last complete row of a run, finished or not; None if there is none."""
    rows = last_rows(directory, 1)
    return rows[0] if rows else None


def last_rows(directory: Path, n: int) -> list[dict[str, Any]]:
    """Return the last ``n`` complete rows of a run, finished or not; fewer if there are not so many."""
    if not (directory / PROGRESS).exists():
        return []
    lines = (directory / PROGRESS).read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines[-n - 1 :] if line.endswith(b"\n")][-n:]


def flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level: ``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def finite(tree: Any) -> Any:
    """Return nested values with the infinite numbers as strings, which JSON can hold."""
    if isinstance(tree, Mapping):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return str(tree) if isinstance(tree, float) and not isfinite(tree) else tree
