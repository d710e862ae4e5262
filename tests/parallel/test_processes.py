"""Laws of the workers: the same rows for any number of them, and whatever dies, a clear end that can be resumed."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from subprocesses import END_S, RUN, finished, progress, results, trpo_train, until

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.parallel import processes
from trpo_cli.parallel.cores import available_cores


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[dict[str, Any]]]:
    """Rows of an uninterrupted run with a number of workers."""
    known: dict[int, list[dict[str, Any]]] = {}

    def rows(n: int) -> list[dict[str, Any]]:
        if n not in known:
            folder = tmp_path_factory.mktemp("whole")
            finished(folder, f"workers={n}")
            known[n] = results(folder / RUN)
        return known[n]

    return rows


def require_equal_to_rounding(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    assert len(rows) == len(others) > 0
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for key in row.keys() - {"update/cg_residual"}:  # which is nothing but rounding
            value = row[key]
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-6, abs=1e-9)
            assert other[key] == same, key


def require_resumable(folder: Path, n: int, whole: Callable[[int], list[dict[str, Any]]]) -> None:
    """The same command goes on to the rows of an uninterrupted run, bit for bit."""
    before = len(progress(folder / RUN))
    assert 0 < before < 6, "the interruption came at the wrong time"
    command = finished(folder, f"workers={n}")
    assert "resuming after iteration" in command.output()
    assert results(folder / RUN) == whole(n)
    assert json.loads((folder / RUN / "done.json").read_text())["iterations"] == 6


# One number of workers and another


@pytest.mark.parametrize("n", [2, 3])
def test_statistics_do_not_depend_on_the_number_of_workers(n: int, whole: Callable[[int], list[dict[str, Any]]]):
    require_equal_to_rounding(whole(1), whole(n))
    # The workers see the same initial states and noise: what is simulated is the same to the last step.
    assert [row["collect/sim_steps"] for row in whole(n)] == [row["collect/sim_steps"] for row in whole(1)]


def test_another_number_of_workers_resumes_and_says_so(tmp_path: Path, whole: Callable[[int], list[dict[str, Any]]]):
    finished(tmp_path, "workers=1", "iterations=2")
    command = finished(tmp_path, "workers=3")
    assert "workers was 1 and is now 3" in command.output() and "resuming after iteration 1" in command.output()
    require_equal_to_rounding(whole(1), results(tmp_path / RUN))


def test_more_workers_than_episodes(tmp_path: Path, whole: Callable[[int], list[dict[str, Any]]]):
    words = ("sampler.n_paths=2", "iterations=2")
    finished(tmp_path / "many", "workers=4", *words)
    finished(tmp_path / "one", "workers=1", *words)
    require_equal_to_rounding(results(tmp_path / "one" / RUN), results(tmp_path / "many" / RUN))


@pytest.mark.parametrize("setting", [0, -1, 2.5, True, "two", None])
def test_a_setting_that_is_no_number_of_workers_is_refused(setting: object):
    with pytest.raises(ConfigError, match=f"^workers={setting} must be auto or a whole number >= 1$"):
        processes.n_workers(setting, 4)


def test_auto_is_a_worker_for_each_core_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7})
    assert processes.n_workers("auto", available_cores(tmp_path)) == 3
    assert processes.n_workers(2, available_cores(tmp_path)) == 2


# Signals


@pytest.mark.parametrize(
    ("n", "number", "group"),
    [
        (1, signal.SIGINT, False),
        (2, signal.SIGINT, True),  # a terminal's Ctrl-C reaches the workers too
        (3, signal.SIGTERM, False),
    ],
)
def test_a_signal_stops_after_the_iteration_and_saves(
    n: int, number: int, group: bool, tmp_path: Path, whole: Callable[[int], list[dict[str, Any]]]
):
    with trpo_train(tmp_path, f"workers={n}", FAULT="slow:0:0") as command:
        until(lambda: len(progress(tmp_path / RUN)) > 1)
        (os.killpg if group else os.kill)(command.process.pid, number)
        assert command.ended() == 128 + number
    assert command.output().splitlines()[-1].endswith("of 6 iterations; the same command resumes.")
    assert command.errors() == "\nStopping after this iteration; once more stops at once.\n"
    require_resumable(tmp_path, n, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_torch_is_imported_ends_the_command_with_a_sentence(number: int, tmp_path: Path):
    with trpo_train(tmp_path, "workers=2") as command:
        until(lambda: "libtorch_cpu" in Path(f"/proc/{command.process.pid}/maps").read_text())
        command.process.send_signal(number)
        assert command.ended() == 128 + number
    assert command.errors() == "trpo-train: stopped at once\n"
    assert not (tmp_path / RUN).exists()


def test_a_second_ctrl_c_ends_a_run_that_is_stuck_and_the_terminal_is_whole(tmp_path: Path):
    with trpo_train(tmp_path, "workers=2", terminal=True, FAULT="stuck:1:1") as command:
        until((tmp_path / "stuck").exists)
        command.type(b"\x03")
        until(lambda: "Stopping after this iteration" in command.errors())
        until(lambda: command.type(b"\x03") or command.process.poll() is not None)
        assert command.ended() == 128 + signal.SIGINT
    assert command.sentences() == [
        "trpo-train: stopped at once; the last checkpoint is intact, the same command resumes"
    ]
    assert command.cursor


# Deaths


@pytest.mark.parametrize(
    ("n", "victim", "status"),
    [(1, 1, 1), (2, 0, -9), (2, 1, 1), (3, 3, 1)],
    ids=["alone", "command", "leader", "worker"],
)
def test_kill_9_at_any_process_ends_the_run_which_resumes(
    n: int, victim: int, status: int, tmp_path: Path, whole: Callable[[int], list[dict[str, Any]]]
):
    with trpo_train(tmp_path, f"workers={n}", FAULT="slow:0:0") as command:
        until(lambda: len(progress(tmp_path / RUN)) > 1)
        processes = command.alive()
        assert len(processes) == 1 + n
        os.kill(processes[victim], signal.SIGKILL)
        assert command.ended(END_S) == status
    who = f"worker {victim - 1} of {n}" if n > 1 else "the run"
    told = [
        f"trpo-train: {who} was killed by SIGKILL, as the kernel does when memory runs out; "
        "the last checkpoint is intact, the same command resumes"
    ]
    assert command.sentences() == (told if victim else [])
    require_resumable(tmp_path, n, whole)


def test_a_stopped_worker_is_waited_for_and_a_dead_one_beside_it_is_not(tmp_path: Path):
    with trpo_train(tmp_path, "workers=3", FAULT="slow:0:0") as command:
        until(lambda: len(progress(tmp_path / RUN)) > 1)
        *_, stopped, killed = command.alive()
        os.kill(stopped, signal.SIGSTOP)
        os.kill(killed, signal.SIGKILL)
        assert command.ended(END_S) == 1
    assert "worker 2 of 3 was killed by SIGKILL" in command.errors()


def test_a_killed_leader_leaves_the_cursor_visible(tmp_path: Path):
    with trpo_train(tmp_path, "workers=2", terminal=True, FAULT="kill:0:1") as command:
        assert command.wait() == 1
    assert command.cursor


@pytest.mark.parametrize(
    ("fault", "n", "sentence"),
    [
        ("error:0:1", 1, "the run failed: ValueError: the pole is broken (faulty_env.py:"),
        ("error:1:1", 2, "worker 1 of 2 failed: ValueError: the pole is broken (faulty_env.py:"),
        ("memory:2:1", 3, "worker 2 of 3 failed: MemoryError (faulty_env.py:"),
        ("exit:0:1", 1, "the run failed: SystemExit: 0 (faulty_env.py:"),
        ("vanish:1:1", 2, "worker 0 of 2 lost the connection to another"),
    ],
)
def test_a_simulator_that_fails_ends_the_run_with_its_reason_which_resumes(
    fault: str, n: int, sentence: str, tmp_path: Path, whole: Callable[[int], list[dict[str, Any]]]
):
    with trpo_train(tmp_path, f"workers={n}", FAULT=fault) as command:
        assert command.ended() == 1
    (line,) = command.errors().splitlines()
    assert line.startswith(f"trpo-train: {sentence}")
    assert line.endswith("the last checkpoint is intact, the same command resumes")
    require_resumable(tmp_path, n, whole)


@pytest.mark.parametrize(("fault", "n"), [("error:0:0", 1), ("error:1:0", 2)])
def test_a_checkpoint_is_promised_only_if_there_is_one(fault: str, n: int, tmp_path: Path):
    with trpo_train(tmp_path, f"workers={n}", FAULT=fault) as command:
        assert command.ended() == 1
    assert command.errors().endswith("; nothing is saved yet\n")
    assert not (tmp_path / RUN / "checkpoint.pt").exists()


@pytest.mark.parametrize("n", [1, 2])
def test_a_closed_standard_output_ends_the_run_which_resumes(
    n: int, tmp_path: Path, whole: Callable[[int], list[dict[str, Any]]]
):
    reader, writer = os.pipe()
    with trpo_train(tmp_path, f"workers={n}", out=writer, FAULT="slow:0:0") as command:
        os.close(writer)
        until(lambda: len(progress(tmp_path / RUN)) > 1)
        os.close(reader)  # as `trpo-train | head -1` does
        assert command.ended() == 128 + signal.SIGPIPE
    (line,) = command.errors().splitlines()
    assert line.startswith("trpo-train: standard output was closed; the last checkpoint is intact")
    require_resumable(tmp_path, n, whole)


def test_a_worker_that_cannot_be_started_is_a_sentence_and_leaves_none(monkeypatch: pytest.MonkeyPatch):
    fork, calls = os.fork, iter([True, False])

    def second_fails() -> int:
        if next(calls):
            return fork()
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", second_fails)
    with pytest.raises(
        RunError, match=r"^workers=3: only 1 could be started \(Resource temporarily unavailable\); use f"
    ):
        processes.run(3, lambda group: 0)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
