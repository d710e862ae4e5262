"""Whose a run directory is: one configuration's for good, and one living command's at a time."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.runs.checkpoint import CHECKPOINT, PREVIOUS, write_all

FORMAT = 2  # of run.json: goes up when its identity is written in another way
PROGRESS = "progress.jsonl"
DONE = "done.json"
CONTINUED = "continued"  # in run.json: what else the rows from some iteration on were computed with


@contextmanager
def disk(directory: Path) -> Iterator[None]:
    """Turns what the disk refuses inside into a RunError of one sentence."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write to {error.filename or directory}: {error.strerror or error}") from error


def take_lock(directory: Path) -> int:
    """The descriptor that keeps other commands out until it is closed or this process ends, however it ends."""
    lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        command = parent_process()  # where this is a worker, whom nobody has to know
        write_all(lock, f"{command.pid if command else os.getpid()} on {socket.gethostname()}".encode())
    except BlockingIOError:
        holder = os.read(lock, 1000).decode(errors="replace")
        os.close(lock)
        raise ConfigError(
            f"{directory} is in use by process {holder}: wait for it to end, or start another run with name=."
        ) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def require_same_run(directory: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """What ``run.json`` says, None in a new directory; ConfigError if the run there is not ``identity``'s."""
    path = directory / "run.json"
    earlier = read_json(path)
    if earlier is None:
        for name in (PROGRESS, CHECKPOINT, PREVIOUS, DONE):
            if (directory / name).exists() and (directory / name).stat().st_size:
                raise ConfigError(f"{directory} holds {name} but no run.json: start afresh with another name=.")
        return None
    require_format(path, earlier.get("format"))
    theirs, ours = _flat(earlier.get("identity", {})), _flat(identity)
    for key in [*ours, *theirs]:
        if theirs.get(key, "unset") != ours.get(key, "unset"):
            raise ConfigError(
                f"{directory} holds a run with {key}={theirs.get(key, 'unset')} and this one has "
                f"{key}={ours.get(key, 'unset')}: start it afresh with another name=."
            )
    return earlier


def require_format(path: Path, found: object) -> None:
    """ConfigError unless ``found``, the format of the ``run.json`` at ``path``, is the one of this version."""
    if found == 1:
        raise ConfigError(
            f"{path} has format 1, from an older version of trpo_cli: rewrite it with "
            f"scripts/rewrite_runs {path.parent}, or start afresh with another name=."
        )
    if found != FORMAT:
        raise ConfigError(
            f"{path} has format {found} and this version of trpo_cli reads format {FORMAT}: "
            "continue it with the version that began it, or start afresh with another name=."
        )


def differences(earlier: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    """A sentence on what ``info`` says otherwise than ``run.json`` did, none if nothing."""
    before, now = _flat(earlier), _flat(info)
    changed = [key for key in now if key != "command" and key in before and before[key] != now[key]]
    changes = [f"{key} was {before[key]}, is {now[key]}" for key in changed]
    return [f"Since this run began: {'; '.join(changes)}."] if changes else []


def continued(description: Mapping[str, Any], info: Mapping[str, Any], iteration: int) -> dict[str, Any]:
    """The content of ``run.json`` once the run goes on from ``iteration`` under ``info``.

    What differs from what was in force is added as ``{"iteration": …, …}`` to the list ``continued``; parts whose rows
    are cut off are forgotten.
    """
    parts = [part for part in description.get(CONTINUED, []) if part["iteration"] < iteration]
    if iteration == 0:
        return {**{k: v for k, v in description.items() if k != CONTINUED}, **info}
    in_force = dict(description)
    for part in parts:
        in_force |= part
    if changed := {key: value for key, value in info.items() if in_force.get(key) != value}:
        parts.append({"iteration": iteration, **changed})
    return {**description, CONTINUED: parts} if parts else {k: v for k, v in description.items() if k != CONTINUED}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def to_json(content: Mapping[str, Any], indent: int | None = None) -> bytes:
    """One line of JSON, or several with ``indent``, that any JSON parser reads: no NaN."""
    return (json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in ``path``, None where there is no such file; ConfigError if it holds anything else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON file: start afresh with another name=.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no JSON object: start afresh with another name=.")
    return content
