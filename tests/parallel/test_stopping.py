"""Laws of a stop that is asked for: the first signal is noted, a later one insists, and handlers come back."""

import os
import signal
from collections.abc import Iterator

import pytest

from trpo_cli.errors import Interrupted
from trpo_cli.parallel import stopping


@pytest.fixture
def handlers() -> Iterator[None]:
    """Puts the process's own handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_signal_is_noted_and_a_later_one_ends_at_once(monkeypatch: pytest.MonkeyPatch, handlers: None):
    monkeypatch.setattr(stopping, "INSIST_S", 1e9)
    with stopping.StopRequest() as stop:
        assert stop() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)  # as soon as this it is the same wish
        assert stop() == signal.SIGTERM
        monkeypatch.setattr(stopping, "INSIST_S", 0.0)
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGINT)
        assert caught.value.args == (signal.SIGINT,)
        assert stop() == signal.SIGTERM
    os.kill(os.getpid(), signal.SIGTERM)  # disturbs nothing on the way out


def test_a_signal_that_nohup_ignores_stays_ignored_and_handlers_come_back(handlers: None):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGINT)
    with stopping.StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop() == 0
    assert signal.getsignal(signal.SIGINT) == before
