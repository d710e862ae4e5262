"""The ways a command ends early (bad input, a run that cannot go on, a signal), and how a component avoids the first.

Every room may import this one.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


class ConfigError(ValueError):
    """Bad input found before anything started; the command prints the sentence and exits with 2."""


class RunError(RuntimeError):
    """A run that cannot go on (disk, dead worker, simulator); the command prints the sentence and exits with 1."""


class Interrupted(KeyboardInterrupt):
    """A signal, its number the argument, ends the command at once; the exit status is 128 + that.

    A class of its own: after a plain KeyboardInterrupt inside an ``exec`` Python overrules the exit status.
    """


@runtime_checkable
class SaysUnused(Protocol):
    """A component that says which of its own values have no effect.

    A run is refused if the command line sets such a value, and the value is no part of the run's identity.
    """

    def unused(self) -> Mapping[str, str]:
        """Name of each field without effect: the reason, as in "sampler.trunk_steps=100 is set"."""
        ...
