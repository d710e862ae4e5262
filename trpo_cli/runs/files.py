"""Names of the files of a run directory, and what every reader needs. No torch is imported, so reports are quick."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROGRESS = "progress.jsonl"
DESCRIPTION = "run.json"
DONE = "done.json"


def last_row(directory: Path) -> dict[str, Any] | None:
    """Return the last complete row of a run, finished or not; None if there is none."""
    if not (directory / PROGRESS).exists():
        return None
    lines = (directory / PROGRESS).read_bytes().splitlines(keepends=True)
    rows = [line for line in lines[-2:] if line.endswith(b"\n")]
    return json.loads(rows[-1]) if rows else None


def flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level: ``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves
