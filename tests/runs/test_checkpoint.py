"""Laws of the checkpoint: it comes back equal, or is known to be damaged; reading it runs nothing."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from compose import executed, options, planned

from trpo_cli.errors import ConfigError
from trpo_cli.runs.checkpoint import (
    CHECKPOINT,
    PREVIOUS,
    BrokenCheckpointError,
    load_checkpoint,
    save_checkpoint,
    write_atomically,
)


def state(iteration: int) -> dict[str, Any]:
    return {
        "iteration": iteration,
        "theta": torch.arange(50, dtype=torch.float64) + iteration,
        "optimizer": {"name": "cem", "seed": 2**127 + 1, "variance": torch.ones(3), "best": None, "on": True},
    }


def assert_equal(actual: Any, expected: Any) -> None:
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected:
            assert_equal(actual[key], expected[key])
    elif isinstance(expected, torch.Tensor):
        assert actual.dtype == expected.dtype
        assert torch.equal(actual, expected)
    else:
        assert actual == expected


def test_comes_back_equal_and_keeps_its_predecessor(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1))
    assert not (tmp_path / PREVIOUS).exists()
    save_checkpoint(tmp_path, state(2))
    assert_equal(load_checkpoint(tmp_path / CHECKPOINT), state(2))
    assert_equal(load_checkpoint(tmp_path / PREVIOUS), state(1))
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, PREVIOUS}


def test_any_truncation_is_noticed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1))
    whole = (tmp_path / CHECKPOINT).read_bytes()
    for length in [0, 1, *range(5, len(whole), 101), len(whole) - 1]:
        (tmp_path / CHECKPOINT).write_bytes(whole[:length])
        with pytest.raises(BrokenCheckpointError, match=r"checkpoint\.pt is damaged"):
            load_checkpoint(tmp_path / CHECKPOINT)


def test_a_flipped_bit_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    save_checkpoint(tmp_path, state(1))
    whole = path.read_bytes()
    noticed = 0
    for position in range(0, len(whole), 5):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        try:
            loaded = load_checkpoint(path)
        except BrokenCheckpointError:
            noticed += 1
        else:
            assert_equal(loaded, state(1))
    # The tensors alone are a fifth of the file; the padding between them may hold anything.
    assert noticed > 0.2 * len(whole) / 5


def test_a_flipped_bit_in_a_tensor_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    save_checkpoint(tmp_path, state(1))
    whole = path.read_bytes()
    at = whole.index(state(1)["theta"].numpy().tobytes())
    path.write_bytes(whole[: at + 9] + bytes([whole[at + 9] ^ 1]) + whole[at + 10 :])
    with pytest.raises(BrokenCheckpointError):
        load_checkpoint(path)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_reading_runs_no_code(tmp_path: Path) -> None:
    torch.save({"format": 1, "state": {"iteration": 0, "theta": Malicious(tmp_path / "ran")}}, tmp_path / CHECKPOINT)
    with pytest.raises(BrokenCheckpointError):
        load_checkpoint(tmp_path / CHECKPOINT)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_what_a_run_saves_can_be_read_without_running_code(tmp_path: Path, optimizer: str) -> None:
    run = executed(planned(f"optimizer={optimizer}", "iterations=1", "path_scale=0.01", f"outputs={tmp_path}"))
    assert load_checkpoint(run / CHECKPOINT)["iteration"] == 1  # which reads with `weights_only`


def test_saving_serialises_once_and_reads_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: calls.append("load"))
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *args, **kwargs: (calls.append("save"), save(*args, **kwargs)))
    save_checkpoint(tmp_path, state(1))
    assert calls == ["save"]


@pytest.mark.parametrize("found", [99, 1])
def test_another_format_is_recognised(tmp_path: Path, found: int) -> None:
    torch.save({"format": found, "state": {}}, tmp_path / CHECKPOINT)
    with pytest.raises(ConfigError, match=rf"format {found}\b.* format 2\b.* name="):
        load_checkpoint(tmp_path / CHECKPOINT)


def test_a_foreign_archive_is_damaged(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / CHECKPOINT)
    with pytest.raises(BrokenCheckpointError):
        load_checkpoint(tmp_path / CHECKPOINT)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_atomically(path, b"old")
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 4:
            return write(descriptor, data[:4])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
