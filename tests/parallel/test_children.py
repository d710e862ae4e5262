"""Laws of the processes that the command forks: they answer or are missed, and nothing of them is left."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from subprocesses import until

from trpo_cli.errors import ConfigError, Interrupted, RunError
from trpo_cli.parallel import children
from trpo_cli.parallel.children import LostChildError, for_command, in_child, time_limit
from trpo_cli.parallel.processes import run
from trpo_cli.parallel.settings import Border


def test_a_process_returns_or_raises_what_its_work_does():
    assert in_child(lambda: (os.getpid(), os.getpgid(0))) != (os.getpid(), os.getpgid(0))

    def refuse() -> None:
        raise ConfigError("no")

    with pytest.raises(ConfigError, match=r"^no$"):
        in_child(refuse)
    with pytest.raises(AttributeError, match="pickle"):  # an answer that cannot be carried
        in_child(lambda: lambda: 0)
    assert not children._alive


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "was killed by SIGSEGV"),
        (lambda: os._exit(3), "ended with status 3"),
    ],
)
def test_a_process_that_ends_without_an_answer_is_missed(end: object, how: str):
    def leave_somebody_behind() -> None:
        if os.fork() == 0:  # which holds the pipe of the answer
            time.sleep(600)
        end()  # type: ignore[operator]

    with pytest.raises(LostChildError, match=how):
        in_child(leave_somebody_behind)


def test_nothing_of_the_group_is_left(tmp_path: Path):
    def work() -> int:
        if (pid := os.fork()) == 0:
            time.sleep(600)
        return pid

    pid = in_child(work)
    until(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text(), 10)


def test_processes_of_an_environment_have_the_systems_signal_handlers():
    @for_command
    def handler(number: int, frame: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGTERM, handler)
    try:
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        process.start()
        process.terminate()
        process.join(20)
        assert process.exitcode == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_process_that_is_asked_for_its_end_leaves_in_order(tmp_path: Path):
    @for_command
    def handler(number: int, frame: object) -> None:
        raise AssertionError

    def work() -> None:
        try:
            (tmp_path / "begun").touch()
            time.sleep(600)
        except Interrupted:
            (tmp_path / "closed").touch()
            raise

    before = signal.signal(signal.SIGTERM, handler)
    try:
        process = children.start(lambda parent: (children.begin(parent), work()), os.getpid())
        until((tmp_path / "begun").exists, 20)
        children.end_all()
        assert (tmp_path / "closed").exists() and process.exitcode and not children._alive
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_handler_of_an_environment_does_not_stay():
    before = signal.getsignal(signal.SIGINT)
    with Border().crossed():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_border_between_equal_settings_is_not_crossed():
    border, output = Border(), sys.stdout
    with border.crossed():
        pass
    assert not border.apart and sys.stdout is output


@pytest.mark.parametrize("status", [0, 143])
def test_a_simulator_that_ends_its_process_has_not_finished_the_run(status: int):
    with pytest.raises(RunError, match=rf"^the run ended with status {status} before everything was done$"):
        run(1, lambda group: os._exit(status))
    assert run(1, lambda group: status) == status


def test_what_takes_too_long_is_given_up():
    with pytest.raises(TimeoutError, match=r"longer than 0\.05 s"), time_limit(0.05):
        time.sleep(30)
    with time_limit(0.05):
        pass
    time.sleep(0.06)  # no alarm is left
