"""A logger gets each row once, whatever happened before, and whatever it does costs the run nothing."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_loggers import ENDS, LINES, Hangs, Lines, Meddles, Raises

from trpo_cli.loggers import background
from trpo_cli.loggers.background import ID, Background
from trpo_cli.runs.log import RunLog
from trpo_cli.runs.logger import Logger

NAME = "logger.mine"


def row(i: int) -> dict[str, Any]:
    return {"iteration": i, "collect/score": i / 4, "update/mean_kl": float("nan")}


def run(directory: Path, n_rows: int, *loggers: Logger, saves: bool = True, **more: Any) -> list[str]:
    """Go on with a run to ``n_rows`` rows, and finish it or not; the sentences for the user."""
    opened = [Background(NAME, logger) for logger in loggers]
    with RunLog.open(directory, {"checkpoint_every": 9}, {}, {}, opened) as log:
        for i in range((log.resume() or {"iteration": 0})["iteration"], n_rows):
            log.write(row(i) | more)
        if saves:
            log.save({"iteration": n_rows})
            log.finish({})
        else:
            log.close_loggers()
        return log.take_messages()


def logged(directory: Path, name: str = LINES) -> list[str]:
    return (directory / name).read_text().splitlines()


def lines(n: int, more: str = "") -> list[str]:
    return [f"{i} score {i / 4}{more}" for i in range(n)]


def test_every_row_arrives_in_order_with_its_distributions_and_the_end(tmp_path: Path):
    assert run(tmp_path, 5, Lines(), returns=(1.0, float("nan"))) == []
    assert logged(tmp_path) == lines(5, " 2 returns")
    assert logged(tmp_path, ENDS) == ["True"]
    assert logged(tmp_path, f"{NAME}.log") == [f"opened for {logged(tmp_path, ID)[0]}"]


def test_a_run_that_goes_on_repeats_no_row_and_keeps_its_id(tmp_path: Path):
    run(tmp_path, 3, Lines())
    run(tmp_path, 5, Lines(), saves=False)  # as after a kill: two rows lie after the checkpoint
    assert any("dropping 2 rows" in message for message in run(tmp_path, 7, Lines()))
    assert logged(tmp_path) == lines(7)
    assert logged(tmp_path, ENDS) == ["True", "False", "True"]
    assert len(set(logged(tmp_path, f"{NAME}.log"))) == 1


def test_a_logger_that_comes_later_gets_the_rows_before_it(tmp_path: Path):
    run(tmp_path, 3)
    assert not (tmp_path / ID).exists()
    run(tmp_path, 4, Lines())
    run(tmp_path, 6)
    run(tmp_path, 7, Lines())
    assert logged(tmp_path) == lines(7)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        *((where, f"OSError: no server in {where}") for where in ("open", "write", "close")),
        *((f"exit in {where}", "its process ended with status 3") for where in ("open", "write", "close")),
    ],
)
def test_a_logger_that_fails_is_one_sentence_and_the_others_go_on(where: str, reason: str, tmp_path: Path):
    assert run(tmp_path, 4, Raises(where), Lines()) == [f"{NAME} has failed, the run has not: {reason}"]
    assert logged(tmp_path) == lines(4) and (tmp_path / "done.json").exists()


def test_nothing_waits_for_a_logger_that_hangs_but_the_end_for_a_while(tmp_path: Path):
    long = "x" * 20_000  # more than a socket takes
    start = time.monotonic()
    with RunLog.open(tmp_path / "a/b", {"outputs": str(tmp_path)}, {}, {}, [Background(NAME, Hangs(0.3))]) as log:
        log.resume()
        for i in range(50):
            log.write(row(i) | {"note": long})
        written = time.monotonic()
        log.finish({})
        assert log.take_messages() == [
            "see a/b",
            f"{NAME} has failed, the run has not: it was not done 0.3 s after the last row ({NAME}.wait_s)",
        ]
    assert 0.3 <= time.monotonic() - written < 3 and written - start < 3


def test_rows_that_nobody_takes_do_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(background, "MOST_WAITING", 1 << 20)
    said = run(tmp_path, 100, Hangs(60.0), note="x" * 30_000)  # it does not wait a minute for it either
    assert said[-1] == f"{NAME} has failed, the run has not: it has left 1 MiB of rows waiting"
    assert len((tmp_path / "progress.jsonl").read_text().splitlines()) == 100


def test_what_a_logger_does_to_its_process_does_not_reach_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    random.seed(0), np.random.seed(0)
    expected = [(random.random(), np.random.random()) for _ in range(3)]
    before = os.getcwd(), {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    random.seed(0), np.random.seed(0)
    found = []
    with RunLog.open(tmp_path, {}, {}, {}, [Background(NAME, Meddles())]) as log:
        log.resume()
        for i in range(3):
            log.write(row(i))
            found.append((random.random(), np.random.random()))
        log.finish({})
        assert log.take_messages() == []
    assert found == expected and "TRPO_MEDDLED" not in os.environ
    assert (os.getcwd(), {number: signal.getsignal(number) for number in before[1]}) == before
    assert capfd.readouterr() == ("", "")
    assert logged(tmp_path, f"{NAME}.log") == ["noise"] * 10


def test_a_process_that_cannot_be_started_is_a_logger_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_process(*_: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(background, "start", no_process)
    reason = "its process could not be started (Resource temporarily unavailable)"
    assert run(tmp_path, 2, Lines()) == [f"{NAME} has failed, the run has not: {reason}"]
