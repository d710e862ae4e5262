"""Atomic writes, and a run's checkpoint with its predecessor. A crash at any moment leaves them intact.

A checkpoint is a dictionary of tensors, numbers, strings and dictionaries of these. Its ``iteration`` is the number of
iterations that it covers. Reading a checkpoint runs no code (``weights_only``) and checks every byte of its contents
against the archive's CRC-32.
"""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from trpo_cli.errors import ConfigError

FORMAT = 2  # of a checkpoint; it goes up when its keys change
CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
BEST = "best.pt"  # the state with the highest score of an evaluation, with ``eval.every``


class BrokenCheckpointError(Exception):
    """A checkpoint file that is cut off, corrupted, or not one of ours."""


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte or raise OSError. One ``os.write`` may write only a part, on a full disk for example."""
    while data:
        data = data[os.write(descriptor, data) :]


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the content of ``path``. Even after a crash a reader finds all old bytes or all new ones."""
    os.replace(_write_beside(path, data), path)
    _sync_directory(path.parent)


def save_checkpoint(directory: Path, state: dict[str, Any]) -> None:
    """Make ``state`` the checkpoint of ``directory``, and keep the checkpoint before it as the predecessor."""
    path = directory / CHECKPOINT
    staged = _write_beside(path, checkpoint_bytes(state))
    # A crash between the two renames leaves only the predecessor. `RunLog.resume` then uses it.
    if path.exists():
        os.replace(path, directory / PREVIOUS)
    os.replace(staged, path)
    _sync_directory(directory)


def checkpoint_bytes(state: dict[str, Any]) -> bytes:
    """Return what a checkpoint file of ``state`` holds."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "state": state}, buffer)
    return buffer.getvalue()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state saved in ``path``, with its tensors on the CPU.

    Raises BrokenCheckpointError if the file is damaged, ConfigError if it has another format.
    """
    data = io.BytesIO(path.read_bytes())
    try:
        # torch does not check the CRC, so it would not notice a flipped bit in a tensor.
        with zipfile.ZipFile(data) as archive:
            intact = archive.testzip() is None
        data.seek(0)
        content = torch.load(data, map_location="cpu", weights_only=True) if intact else None
    except Exception as error:  # A damaged file can make the parsers raise anything.
        raise BrokenCheckpointError(f"{path.name} is damaged") from error
    if not isinstance(content, dict) or "format" not in content:
        raise BrokenCheckpointError(f"{path.name} is damaged")
    require_format(path, content["format"])
    state: dict[str, Any] = content["state"]
    return state


def require_format(path: Path, found: object) -> None:
    """Raise ConfigError unless ``found`` is the format that this version reads and writes."""
    if found != FORMAT:
        raise ConfigError(
            f"{path} has format {found}, but this version of trpo_cli reads format {FORMAT}: "
            "continue the run with the version that began it, or start a new run with another name=."
        )


def _write_beside(path: Path, data: bytes) -> Path:
    """Write ``data`` to a file beside ``path``, synced to the disk. Return its path. If that fails, leave no file."""
    staged = path.with_name(path.name + ".tmp")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return staged


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
