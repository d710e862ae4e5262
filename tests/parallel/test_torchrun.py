"""Workers that torchrun starts: the same rows, refusals said once, and an orderly end."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from subprocesses import RUN, Launched, finished, ordered, progress, results, until

TORCHRUN = Path(sys.executable).with_name("torchrun")


def torchrun(folder: Path, *words: str, node: int, port: int, n_nodes: int = 2, **environment: str) -> Launched:
    """One node's part of a run, one worker per node if there are several, else two."""
    group = ["--nnodes", str(n_nodes), "--nproc-per-node", str(3 - n_nodes), "--node-rank", str(node)]
    address = ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    return Launched(folder, str(TORCHRUN), *group, *address, "-m", "trpo_cli", *ordered(*words), **environment)


@pytest.fixture
def port() -> int:
    """A port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


def test_two_nodes_of_torchrun_write_the_rows_of_two_workers(port: int, tmp_path: Path):
    finished(tmp_path / "alone", "workers=2")
    with torchrun(tmp_path, node=0, port=port) as first, torchrun(tmp_path, node=1, port=port) as second:
        assert (first.wait(), second.wait()) == (0, 0), first.errors() + second.errors()
    assert "(2 workers)" in first.output() and second.output() == ""
    assert results(tmp_path / RUN) == results(tmp_path / "alone" / RUN)


@pytest.mark.parametrize(
    ("words", "other", "sentence"),
    [
        ("workers=3", "", "workers=3: torchrun has started 2 and decides; leave workers out"),
        ("", "optimizer.kl_limit=-1", "optimizer.kl_limit=-1.0 must be a finite number > 0"),
        ("", "sede=1", "sede does not exist; did you mean seed?"),
        (
            "-m seed=0,1",
            "-m seed=0,1",
            "torchrun starts the workers of one run: leave out -m, and call it once for each",
        ),
    ],
)
def test_a_refusal_under_torchrun_is_said_once_by_the_leader(
    words: str, other: str, sentence: str, port: int, tmp_path: Path
):
    with (
        torchrun(tmp_path, *words.split(), node=0, port=port) as first,
        torchrun(tmp_path, *other.split(), node=1, port=port) as second,
    ):
        assert first.ended() != 0 != second.ended()
    (line,) = first.sentences() + second.sentences()
    assert line.startswith(f"trpo-train: {sentence}") and line in first.errors()
    assert not (tmp_path / RUN).exists()


def test_a_signal_at_any_node_stops_all_in_order(port: int, tmp_path: Path):
    slow = {"FAULT": "slow:0:0"}
    with (
        torchrun(tmp_path, node=0, port=port, **slow) as first,
        torchrun(tmp_path, node=1, port=port, **slow) as second,
    ):
        until(lambda: len(progress(tmp_path / RUN)) > 1)
        os.kill(second.process.pid, signal.SIGTERM)
        assert first.ended() != 0 != second.ended()
    assert first.output().splitlines()[-1].endswith("of 6 iterations; the same command resumes.")
    assert len(progress(tmp_path / RUN)) < 6


def test_a_failure_of_one_member_of_torchruns_group_ends_all(port: int, tmp_path: Path):
    with torchrun(tmp_path, node=0, port=port, n_nodes=1, FAULT="error:1:1") as command:
        assert command.ended() != 0
    assert command.sentences()[0].startswith("trpo-train: worker 1 of 2 failed: ValueError: the pole is broken")
