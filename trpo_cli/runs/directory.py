"""A run directory belongs to one configuration for ever, and to one running command at a time."""

import fcntl
import json
import os
import shlex
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.runs.checkpoint import CHECKPOINT, PREVIOUS, write_all
from trpo_cli.runs.files import DESCRIPTION, DONE, PROGRESS, flat, read_json

FORMAT = 2  # of run.json: goes up when its identity is written in another way
CONTINUED = "continued"  # the key of run.json that lists the changes of machine, code or command during the run


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a RunError of one sentence."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write to {error.filename or directory}: {error.strerror or error}") from error


def take_lock(directory: Path) -> int:
    """Lock ``directory`` against other commands. Return the file descriptor that holds the lock.

    The lock ends when the descriptor is closed, or when this process ends for any reason.
    """
    lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        command = parent_process()  # set if this process is a worker; users know only the command
        write_all(lock, f"{command.pid if command else os.getpid()} on {socket.gethostname()}".encode())
    except BlockingIOError:
        holder = os.read(lock, 1000).decode(errors="replace")
        os.close(lock)
        raise ConfigError(
            f"{directory} is in use by process {holder}: wait until it ends, or start another run with name=."
        ) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def require_same_run(directory: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of ``run.json``, or None in a new directory.

    Raises ConfigError if the run there has another identity, or if files of a run lie there without ``run.json``.
    """
    path = directory / DESCRIPTION
    earlier = read_json(path)
    if earlier is None:
        for name in (PROGRESS, CHECKPOINT, PREVIOUS, DONE):
            if (directory / name).exists() and (directory / name).stat().st_size:
                raise ConfigError(f"{directory} holds {name} but no run.json: start a new run with another name=.")
        return None
    require_format(path, earlier.get("format"))
    if (different := _difference(earlier, identity)) is not None:
        key, before, now = ("null" if part is None else part for part in different)
        raise ConfigError(
            f"{directory} holds a run with {key}={before}, but this run has {key}={now}: "
            "start it as a new run with another name=."
        )
    return earlier


def _difference(description: Mapping[str, Any], identity: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first setting that is another one in ``run.json``, with its values there and in ``identity``.

    A setting that did not exist yet is null: every setting that is added can be null.
    """
    theirs, ours = flat(description.get("identity", {})), flat(identity)
    values = ((key, theirs.get(key), ours.get(key)) for key in [*ours, *theirs])
    return next((found for found in values if found[1] != found[2]), None)


def folder_of_a_sweep(directory: Path, name: Path, identity: Mapping[str, Any]) -> str | None:
    """The folder of ``name`` in which a sweep has begun the run that would else begin in ``directory``.

    A sweep over a number puts its jobs into folders such as ``optimizer.kl_limit=0.04``. A run that is new in
    ``directory`` and has the identity of exactly one of these jobs is that job, and goes on there.
    """
    if (directory / DESCRIPTION).exists():
        return None
    plain = json.loads(json.dumps(identity))
    found = []
    for path in sorted(name.glob(f"*=*/{directory.relative_to(name)}/{DESCRIPTION}")):
        with suppress(ConfigError, OSError):  # not a run of this version: nothing to go on with
            earlier = read_json(path) or {}
            if earlier.get("format") == FORMAT and _difference(earlier, plain) is None:
                found.append(path.relative_to(name).parts[0])
    return found[0] if len(found) == 1 else None


def require_format(path: Path, found: object) -> None:
    """Raise ConfigError unless ``found``, the format of the ``run.json`` at ``path``, is the one of this version."""
    if found == 1:
        raise ConfigError(
            f"{path} has format 1, from an older version of trpo_cli: rewrite it with "
            f"scripts/rewrite_runs {shlex.quote(str(path.parent))}, or start a new run with another name=."
        )
    if found != FORMAT:
        raise ConfigError(
            f"{path} has format {found} and this version of trpo_cli reads format {FORMAT}: "
            "continue it with the version that began it, or start a new run with another name=."
        )


def describe_differences(earlier: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    """Return a sentence that lists what differs between ``run.json`` and ``info``, or nothing if nothing does."""
    before, now = flat(earlier), flat(info)
    changed = [key for key in now if key != "command" and key in before and before[key] != now[key]]
    changes = [f"{key} was {before[key]} and is now {now[key]}" for key in changed]
    return [f"Since this run began, {'; '.join(changes)}."] if changes else []


def continued_description(description: Mapping[str, Any], info: Mapping[str, Any], iteration: int) -> dict[str, Any]:
    """Return the content of ``run.json`` for a run that continues from ``iteration`` with ``info``.

    The list ``continued`` gets an entry ``{"iteration": …, …}`` with the values that changed since the entry before.
    Entries of rows that are cut off are removed.
    """
    plain = {key: value for key, value in description.items() if key != CONTINUED}
    if iteration == 0:
        return {**plain, **info}
    entries = [entry for entry in description.get(CONTINUED, []) if entry["iteration"] < iteration]
    current = dict(plain)
    for entry in entries:
        current |= entry
    if changed := {key: value for key, value in info.items() if current.get(key) != value}:
        entries.append({"iteration": iteration, **changed})
    return {**plain, CONTINUED: entries} if entries else plain


def to_json(content: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Return one line of JSON, or several lines with ``indent``. NaN is refused: many JSON parsers cannot read it."""
    return (json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode()
