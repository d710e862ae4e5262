"""The two ways a command ends early: a configuration that cannot work, and a run that cannot go on."""


class ConfigError(ValueError):
    """Bad input found before anything started; the command prints the sentence and exits with 2."""


class RunError(RuntimeError):
    """A run that cannot go on (disk, dead worker, simulator); the command prints the sentence and exits with 1."""
