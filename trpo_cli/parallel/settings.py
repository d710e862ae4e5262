"""What holds for a whole process, and what an environment may change in it: its own settings stay its own.

A program that runs in our process can change how NumPy and torch compute and where Python prints. `Border` keeps two
sets of such settings, ours and those of the environment, and changes from one to the other if they differ.
"""

import random
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Self

import numpy as np

from trpo_cli.parallel.children import SIGNALS


def seed_global_generators(*numbers: int) -> None:
    """Seed the generators of Python, NumPy and torch that a whole process shares, from all the numbers together.

    Nothing of ours draws from them, but many environments do. Without this, forked workers would draw the same numbers.
    """
    python, legacy, torch_seed = (int(word) for word in np.random.SeedSequence(numbers).generate_state(3))
    random.seed(python)
    np.random.seed(legacy)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(torch_seed)


class Settings(NamedTuple):
    """Settings of this process."""

    numpy_errors: Any  # what to do for each kind of error
    torch: tuple[Any, ...]  # default type, whether gradients are computed, threads; empty without torch
    streams: tuple[Any, Any]
    warnings: tuple[Any, ...]  # the filters

    @classmethod
    def now(cls) -> Self:
        """Those that hold now."""
        of_torch: tuple[Any, ...] = ()
        if (torch := sys.modules.get("torch")) is not None:
            of_torch = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
        return cls(np.geterr(), of_torch, (sys.stdout, sys.stderr), tuple(warnings.filters))

    def differ(self, other: "Settings") -> bool:
        """True if a difference matters. Of warnings, only those do that become exceptions."""
        return self[:-1] != other[:-1] or _raised(self.warnings) != _raised(other.warnings)

    def apply(self) -> None:
        """Let these hold."""
        np.seterr(**self.numpy_errors)
        if self.torch:
            torch = sys.modules["torch"]
            torch.set_default_dtype(self.torch[0])
            torch.set_grad_enabled(self.torch[1])
            torch.set_num_threads(self.torch[2])
        sys.stdout, sys.stderr = self.streams
        warnings.filters[:] = self.warnings  # type: ignore[index]
        warnings._filters_mutated()  # type: ignore[attr-defined]


def _raised(filters: tuple[Any, ...]) -> list[Any]:
    return [entry for entry in filters if entry[0] == "error"]


class Border:
    """Between our settings and those of an environment, in the process that both share.

    As long as they are the same, ``apart`` is False, and a step need not cross. Signal handlers are always ours, or a
    run could not be stopped.
    """

    def __init__(self) -> None:
        self.apart = False
        self._theirs: Settings | None = None
        self._inside = False

    @contextmanager
    def crossed(self, handlers: bool = True) -> Iterator[None]:
        """Inside the block the environment's settings hold, and what it changes there is noted.

        handlers: put our signal handlers back afterwards, which takes as long as everything else
        """
        if self._inside:
            yield
            return
        ours, before = Settings.now(), _handlers() if handlers else []
        if self._theirs is not None:
            self._theirs.apply()
        self._inside = True
        try:
            yield
        finally:
            self._inside = False
            theirs = Settings.now()
            self.apart = self.apart or (theirs != ours and theirs.differ(ours))
            if self.apart:
                self._theirs = theirs
                ours.apply()
            if handlers:
                for number, handler in before:
                    if signal.getsignal(number) != handler:
                        with suppress(ValueError, TypeError):  # not in this thread, or not one of Python's
                            signal.signal(number, handler)


def _handlers() -> list[tuple[int, Any]]:
    return [(number, signal.getsignal(number)) for number in SIGNALS]
