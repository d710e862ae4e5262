"""Laws of a run's record: whatever moment it stops at, it continues to the rows and state of an uninterrupted run."""

import errno
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.runs.checkpoint import CHECKPOINT, PREVIOUS
from trpo_cli.runs.files import DESCRIPTION, PROGRESS
from trpo_cli.runs.log import RunLog

N = 3


def opened(directory: Path) -> RunLog:
    return RunLog.open(directory, {"seed": 0}, {"seed": 0}, {})


def row(iteration: int) -> dict[str, Any]:
    return {"iteration": iteration, "collect/score": iteration / 3}


def checkpoint(iteration: int) -> dict[str, Any]:
    return {"iteration": iteration, "theta": torch.full((4,), iteration)}


def rows(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / PROGRESS).read_bytes().splitlines()]


def train(directory: Path, saved: Callable[[int], None] = lambda iteration: None) -> None:
    """A whole run, or the rest of one."""
    with opened(directory) as log:
        state = log.resume() or checkpoint(0)
        assert rows(directory) == [row(i) for i in range(state["iteration"])]
        assert torch.equal(state["theta"], checkpoint(state["iteration"])["theta"])
        for iteration in range(state["iteration"], N):
            log.write(row(iteration))
            log.save(checkpoint(iteration + 1))
            saved(iteration + 1)
        log.finish({"iterations": N})


class Killed(BaseException):
    """As final as SIGKILL: no handler for errors may see it."""


@contextmanager
def killed_at(call: int) -> Iterator[None]:
    """Stops before the ``call``-th operation on the disk; half of a write is done."""
    calls = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "write", "fsync", "replace", "ftruncate", "mkdir"):
            original = getattr(os, name)

            def operation(*args: Any, original: Any = original, name: str = name, **kwargs: Any) -> Any:
                if next(calls) == call:
                    if name == "write":
                        original(args[0], args[1][: len(args[1]) // 2])
                    raise Killed
                return original(*args, **kwargs)

            patch.setattr(os, name, operation)
        yield


def test_a_run_killed_at_any_operation_continues_to_the_same_record(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    for call in itertools.count():
        directory = tmp_path / str(call)
        saves = [0]
        try:
            with killed_at(call):
                train(directory, saves.append)
        except Killed:
            pass
        else:
            break
        if directory.exists():
            with opened(directory) as log:
                n_rows = (directory / PROGRESS).read_bytes().count(b"\n")
                state = log.resume() or checkpoint(0)
                lost = ["dropping 1 row after the last checkpoint, to be computed again"]
                assert log.messages == (lost if n_rows > state["iteration"] else [])
                # Nothing that `save` returned from is lost, and nothing is counted that was not written.
                assert saves[-1] <= state["iteration"] <= saves[-1] + 1
        train(directory)
        assert (directory / PROGRESS).read_bytes() == (tmp_path / "whole" / PROGRESS).read_bytes()
        with opened(directory) as log:
            assert log.finished == {"iterations": N}
    assert call > 20


def test_continuing_after_damage_survives_a_kill_too(tmp_path: Path) -> None:
    for call in itertools.count():
        directory = tmp_path / str(call)
        with opened(directory) as log:
            log.resume()
            for iteration in range(2):
                log.write(row(iteration))
                log.save(checkpoint(iteration + 1))
        (directory / CHECKPOINT).write_bytes(b"damage")
        try:
            with killed_at(call):
                train(directory)
        except Killed:
            train(directory)
            assert rows(directory) == [row(i) for i in range(N)]
        else:
            break
    assert call > 10


def written(directory: Path, n_rows: int, saves: Sequence[int], every: int = 1) -> None:
    """A run that was killed after so many rows, with a checkpoint after each of ``saves`` rows."""
    with RunLog.open(directory, {"seed": 0, "checkpoint_every": every}, {"seed": 0}, {}) as log:
        log.resume()
        for iteration in range(n_rows):
            log.write(row(iteration))
            if iteration + 1 in saves:
                log.save(checkpoint(iteration + 1))


@pytest.mark.parametrize(
    ("saves", "lost", "found"),
    [
        ((), (), "no checkpoint.pt"),  # a copy without the large files
        ((2,), (), "checkpoint.pt, which counts 2 of them"),  # an older copy was put back
        ((1, 2), (CHECKPOINT,), "checkpoint.previous.pt, which counts 1 of them"),
        ((2, 7), (CHECKPOINT, PREVIOUS), "no checkpoint.pt"),
    ],
)
def test_rows_that_no_crash_leaves_behind_a_checkpoint_are_not_erased(
    saves: tuple[int, ...], lost: tuple[str, ...], found: str, tmp_path: Path
) -> None:
    written(tmp_path, 7, saves)
    for name in lost:
        (tmp_path / name).unlink()
    before = (tmp_path / PROGRESS).read_bytes()
    with (
        opened(tmp_path) as log,
        pytest.raises(ConfigError, match=rf" holds 7 rows in progress\.jsonl and {found}: put"),
    ):
        log.resume()
    assert (tmp_path / PROGRESS).read_bytes() == before


def test_a_finished_run_without_its_checkpoint_is_not_erased(tmp_path: Path) -> None:
    written(tmp_path, 1, ())
    with opened(tmp_path) as log:
        log.finish({"iterations": 1})
        with pytest.raises(ConfigError, match=r" holds 1 row in progress\.jsonl and no checkpoint\.pt: put"):
            log.resume()
    assert rows(tmp_path) == [row(0)]


@pytest.mark.parametrize(("saves", "n_lost"), [((), 5), ((3,), 2), ((3, 5), 0)])
def test_rows_that_a_crash_leaves_are_dropped_with_a_word(saves: tuple[int, ...], n_lost: int, tmp_path: Path) -> None:
    written(tmp_path, 5, saves, every=5)
    with opened(tmp_path) as log:  # it saves more often than the command that was killed
        log.resume()
        assert log.messages == [f"dropping {n_lost} rows after the last checkpoint, to be computed again"] * (
            n_lost > 0
        )
    assert len(rows(tmp_path)) == 5 - n_lost


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"not a checkpoint" * 100])
def test_a_damaged_checkpoint_gives_way_to_its_predecessor(tmp_path: Path, damage: bytes) -> None:
    train(tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(damage)
    with opened(tmp_path) as log:
        state = log.resume()
        assert state is not None
        assert state["iteration"] == N - 1
        assert log.messages == [
            "dropping 1 row after the last checkpoint, to be computed again",
            f"checkpoint.pt is damaged: continuing from iteration {N - 1}.",
        ]
    assert rows(tmp_path) == [row(i) for i in range(N - 1)]


def test_missing_rows_fall_back_to_the_checkpoint_before_them(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / PROGRESS).write_bytes(b"".join((tmp_path / PROGRESS).read_bytes().splitlines(keepends=True)[: N - 1]))
    with opened(tmp_path) as log:
        state = log.resume()
        assert state is not None
        assert state["iteration"] == N - 1
        assert "progress.jsonl lacks rows" in log.messages[0]


def test_a_row_of_another_iteration_falls_back_to_the_checkpoint_before_it(tmp_path: Path) -> None:
    train(tmp_path)
    first, second, _ = (tmp_path / PROGRESS).read_bytes().splitlines(keepends=True)
    (tmp_path / PROGRESS).write_bytes(first + second + second)
    with opened(tmp_path) as log:
        state = log.resume()
        assert state is not None and state["iteration"] == N - 1


def test_a_row_is_on_the_disk_before_the_checkpoint_and_the_new_names_are_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        done.append(f"{target.name} is there")
        replace(source, target)

    with opened(tmp_path) as log:
        log.resume()
        log.write(row(0))
        monkeypatch.setattr(os, "fsync", noted_fsync)
        monkeypatch.setattr(os, "replace", noted_replace)
        log.save(checkpoint(1))
    assert done == [PROGRESS, f"{CHECKPOINT}.tmp", f"{CHECKPOINT} is there", tmp_path.name]


def test_what_computes_the_rows_from_an_iteration_on_is_recorded(tmp_path: Path) -> None:
    for iteration, workers in enumerate((1, 2)):
        with RunLog.open(tmp_path, {"seed": 0}, {"seed": 0}, {"workers": workers}) as log:
            log.resume()
            log.write(row(iteration))
            log.save(checkpoint(iteration + 1))
    assert json.loads((tmp_path / DESCRIPTION).read_bytes())["continued"] == [{"iteration": 1, "workers": 2}]


@pytest.mark.parametrize("spoil", [CHECKPOINT, PROGRESS])
def test_what_cannot_be_continued_is_said_and_left_alone(tmp_path: Path, spoil: str) -> None:
    train(tmp_path)
    if spoil == CHECKPOINT:
        (tmp_path / CHECKPOINT).write_bytes(b"")
        (tmp_path / PREVIOUS).write_bytes(b"")
    else:
        (tmp_path / PROGRESS).write_bytes(b"\0\0\0\n")
    before = (tmp_path / PROGRESS).read_bytes()
    with opened(tmp_path) as log, pytest.raises(RunError, match=r"cannot be continued \(.*; .*\): .*name="):
        log.resume()
    assert (tmp_path / PROGRESS).read_bytes() == before


@pytest.mark.parametrize("tail", [b'{"iteration": 3, "coll', b'{"iteration": 3}\n{"iter', b"\0\0\0\0\n"])
def test_rows_after_the_checkpoint_are_cut(tmp_path: Path, tail: bytes) -> None:
    train(tmp_path)
    (tmp_path / "done.json").unlink()
    with (tmp_path / PROGRESS).open("ab") as progress:
        progress.write(tail)
    with opened(tmp_path) as log:
        log.resume()
    assert rows(tmp_path) == [row(i) for i in range(N)]


def test_rows_without_a_checkpoint_start_again(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        assert log.resume() is None
        log.write(row(0))
    with opened(tmp_path) as log:
        assert log.resume() is None
    assert rows(tmp_path) == []


def test_a_row_is_flat_plain_and_on_the_disk_at_once(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.resume()
        log.write(
            {"iteration": 0, "time_s": np.float32(0.5), "update/accepted": True, "update/reason": "δ"},
            {"update/mean_kl": torch.tensor(0.25), "a": math.nan, "b": np.float64("inf"), "c": None, "d": np.int64(7)},
        )
        assert rows(tmp_path) == [
            {"iteration": 0, "time_s": 0.5, "update/accepted": True, "update/reason": "δ"}
            | {"update/mean_kl": 0.25, "a": None, "b": None, "c": None, "d": 7}
        ]


def test_a_wrong_row_is_a_programming_error(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        with pytest.raises(ValueError, match="next one is None"):
            log.write(row(0))
        log.resume()
        with pytest.raises(ValueError, match="collect/score is set twice"):
            log.write(row(0), {"collect/score": 2})
        with pytest.raises(ValueError, match="iteration 1, but the next one is 0"):
            log.write(row(1))
        with pytest.raises(TypeError, match="not list"):
            log.write(row(0), {"x": [1]})
        with pytest.raises(ValueError, match="counts 1 rows, but 0"):
            log.save(checkpoint(1))
    assert rows(tmp_path) == []


def no_space(*args: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_sentence_and_costs_nothing_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as log:
        log.resume()
        log.write(row(0))
        log.save(checkpoint(1))
        # A real device that is always full takes the place of the file the checkpoint is staged in.
        (tmp_path / f"{CHECKPOINT}.tmp").symlink_to("/dev/full")
        log.write(row(1))
        with pytest.raises(RunError, match=r"^cannot write to .*: No space left on device$"):
            log.save(checkpoint(2))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", no_space)
            with pytest.raises(RunError, match=r"^cannot write to .*: No space left on device$"):
                log.write(row(2))
            with pytest.raises(RunError, match="No space left"):
                log.finish({})
        with pytest.raises(ValueError, match="counts 3 rows, but 2"):
            log.save(checkpoint(3))
    with opened(tmp_path) as log:
        state = log.resume()
        assert state is not None
        assert state["iteration"] == 1
        assert log.finished is None
