"""The ways a command ends early: a configuration that cannot work, a run that cannot go on, a signal."""

INTACT = "the last checkpoint is intact, the same command resumes"  # ends the sentence on what stopped a run


class ConfigError(ValueError):
    """Bad input found before anything started; the command prints the sentence and exits with 2."""


class RunError(RuntimeError):
    """A run that cannot go on (disk, dead worker, simulator); the command prints the sentence and exits with 1."""


class Interrupted(KeyboardInterrupt):
    """A signal, its number the argument, ends the command at once; the exit status is 128 + that.

    A class of its own: after a plain KeyboardInterrupt inside an ``exec`` Python overrules the exit status.
    """
