"""How a command ends early: bad input, a run that cannot go on, a signal. `SaysUnused` is for input without effect.

Every room may import this one.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


class ConfigError(ValueError):
    """Bad input found before anything started; the command prints the sentence and exits with 2."""


def require(holds: bool, key: str, value: object, what: str) -> None:
    """Refuse a setting with a sentence that names key, value and what would work: ConfigError unless ``holds``."""
    if not holds:
        raise ConfigError(f"{key}={'null' if value is None else value} must be {what}")


class RunError(RuntimeError):
    """A run that cannot go on (disk, dead worker, simulator); the command prints the sentence and exits with 1."""


class RunWarning(UserWarning):
    """Something is not as the user believes, and the command goes on; commands print the sentence."""


class StuckError(RunError):
    """A run that cannot go on, and that the same command does not help; the sentence says what does."""


class Interrupted(KeyboardInterrupt):
    """Signal n ends the command at once; n is the argument, and 128 + n the exit status.

    It is not a plain KeyboardInterrupt: after one inside an ``exec`` Python replaces the exit status.
    """


@runtime_checkable
class SaysUnused(Protocol):
    """A component that says which of its own values have no effect.

    A run is refused if the command line sets such a value, and the value is no part of the run's identity.
    """

    def unused(self) -> Mapping[str, str]:
        """The fields without effect, each with the reason, such as "sampler.trunk_steps=100 is set".

        After ", or " may stand what to do so that it has an effect: "…, or add sampler.trunk_steps=null".
        """
        ...
