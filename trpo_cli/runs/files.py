"""Names of the files of a run directory, and what every reader needs. No torch is imported, so reports are quick."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import Any

from trpo_cli.errors import ConfigError

PROGRESS = "progress.jsonl"
DESCRIPTION = "run.json"
DONE = "done.json"
LAST = 5  # a final value is the mean over this many iterations, here and in every report
RETURN, SCORE = "collect/episode_return", "collect/score"  # columns


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in ``path``, or None if there is no such file. Raises ConfigError for other content."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: start a new run with another name=.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} does not hold a JSON object: start a new run with another name=.")
    return content


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


def final(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Return the final value of a column: its mean over the last iterations that have one; None if none has."""
    values = [row[key] for row in rows[-LAST:] if row.get(key) is not None]
    return mean(values) if values else None


def final_words(rows: Sequence[Mapping[str, Any]], with_score: bool) -> str:
    """Return the final return and, if it is shown, the final score as words."""
    shown = {"return": RETURN, **({"score": SCORE} if with_score else {})}
    found = {name: final(rows, key) for name, key in shown.items()}
    told = ", ".join(f"{name} {'-' if value is None else f'{value:.4g}'}" for name, value in found.items())
    return f"{told} (mean of the last {LAST} iterations)"


def score_is_shown(env: str) -> bool:
    """True unless the score, which is the return divided by the step limit, says nothing about a task.

    env: the option of ``env=``. The paper's tasks pay by the step; Gymnasium's and Atari's are told by their return.
    """
    return not (env == "gymnasium" or env.endswith("_v5") or env.partition("/")[0] == "atari")


def flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level: ``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def json_value(value: Any) -> float | int | str | None:
    """Return ``value``, or the element of an array or tensor of one, as a Python number, string or None."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not isfinite(value):
        return None
    if value is None or isinstance(value, float | int | str):
        return value
    raise TypeError(f"a row holds numbers and strings, not {type(value).__name__}")


def finite(tree: Any) -> Any:
    """Return nested values with the infinite numbers as strings, which JSON can hold."""
    if isinstance(tree, Mapping):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return str(tree) if isinstance(tree, float) and not isfinite(tree) else tree
