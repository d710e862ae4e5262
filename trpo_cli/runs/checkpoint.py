"""Files that a crash at any moment leaves whole: atomic writes, and the checkpoint with one predecessor.

A checkpoint is a dictionary of tensors, numbers, strings and dictionaries of these, its ``iteration`` the number of
iterations it covers. Reading one runs no code (``weights_only``) and checks every byte (the archive's CRC-32).
"""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from trpo_cli.errors import ConfigError

FORMAT = 1  # of the run directory: goes up when an older run can no longer be continued
CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"


class BrokenCheckpointError(Exception):
    """A checkpoint that is truncated, corrupted, or no checkpoint of ours."""


def write_all(descriptor: int, data: bytes) -> None:
    """Writes every byte or raises OSError; a full disk may take the first part of ``data`` only."""
    while data:
        data = data[os.write(descriptor, data) :]


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces ``path``: whoever opens it, after a crash too, finds all of the old bytes or all of the new ones."""
    os.replace(_stage(path, data), path)
    _sync_directory(path.parent)


def save_checkpoint(directory: Path, state: dict[str, Any]) -> None:
    """Makes ``state`` the checkpoint of ``directory`` and the one before it the fallback."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "state": state}, buffer)
    path = directory / CHECKPOINT
    staged = _stage(path, buffer.getvalue())
    # Between the two renames the predecessor stands alone, which `RunLog.resume` understands.
    if path.exists():
        os.replace(path, directory / PREVIOUS)
    os.replace(staged, path)
    _sync_directory(directory)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state saved in ``path``, its tensors on the processor.

    Raises BrokenCheckpointError, or ConfigError for one of another format.
    """
    data = io.BytesIO(path.read_bytes())
    try:
        # torch skips the check of the CRC, so a flipped bit in a tensor would go unnoticed.
        with zipfile.ZipFile(data) as archive:
            intact = archive.testzip() is None
        data.seek(0)
        content = torch.load(data, map_location="cpu", weights_only=True) if intact else None
    except Exception as error:  # Damage surfaces as whatever the parser trips over.
        raise BrokenCheckpointError(f"{path.name} is damaged") from error
    if not isinstance(content, dict) or "format" not in content:
        raise BrokenCheckpointError(f"{path.name} is damaged")
    require_format(path, content["format"])
    state: dict[str, Any] = content["state"]
    return state


def require_format(path: Path, found: object) -> None:
    """Raises ConfigError unless ``found`` is the format this version reads and writes."""
    if found != FORMAT:
        raise ConfigError(
            f"{path} has format {found} and this version of trpo_cli reads format {FORMAT}: "
            "continue it with the version that began it, or start afresh with another name=."
        )


def _stage(path: Path, data: bytes) -> Path:
    """Writes ``data`` to the disk beside ``path`` and returns where; a failed write leaves nothing."""
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
