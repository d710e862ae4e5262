"""How a command ends: every refusal is one sentence on the error stream, with an exit status.

Exit status: 0 done, 2 bad input, 1 a run that cannot go on, 128 + n stopped by signal n.
"""

import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from omegaconf.errors import OmegaConfBaseException

from trpo_cli.config.messages import explain_value
from trpo_cli.errors import ConfigError, Interrupted, RunError, RunWarning, StuckError
from trpo_cli.parallel.children import end_all, for_command


class JobError(RuntimeError):
    """A job of a sweep failed and has already said why; the arguments: exit status, and what is said at the end."""


@contextmanager
def sentences(command: str) -> Iterator[None]:
    """Turn what can go wrong into one sentence on the error stream and an exit status."""

    @for_command
    def at_once(number: int, frame: object) -> None:
        """What a signal does while there is no run to save."""
        if "joblib" in sys.modules:
            raise Interrupted(number)  # joblib has jobs to end
        # Do not raise here: if torch is being imported, its C++ code may abort on an exception.
        if os.environ.get("RANK", "0") == "0":
            say(command, "stopped at once")
        end_all()
        os._exit(128 + number)

    before = {number: signal.signal(number, at_once) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _require_working_directory()
        with _warnings_as_sentences(command):
            yield
    except (Exception, Interrupted) as error:
        if (found := verdict(error)) is None:
            raise
        _leave(command, *found, everywhere=isinstance(error, RunError))
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is at_once:
                signal.signal(number, handler)


@contextmanager
def _warnings_as_sentences(command: str) -> Iterator[None]:
    """Print a `RunWarning` as one sentence on the error stream, and leave all other warnings as they are."""
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, RunWarning):
            say(command, str(message))
        else:
            others(message, category, *rest, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = others


def verdict(error: BaseException) -> tuple[int, str] | None:
    """Exit status and sentence of an error that can be expected; None for a fault of the program."""
    if isinstance(error, ConfigError):
        return 2, str(error)
    if isinstance(error, OmegaConfBaseException):
        return 2, explain_value(error)
    if isinstance(error, RunError):
        return 1, _with_notes(str(error), error)
    if isinstance(error, JobError):
        return error.args[0], error.args[1]
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE, _with_notes("standard output was closed", error)
    if isinstance(error, OSError):
        return 1, _refused_by_system(error)
    if isinstance(error, Interrupted):
        return 128 + error.args[0], _with_notes("stopped at once", error)
    return None


def _require_working_directory() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError("the working directory does not exist any more; go to another one") from error


def _refused_by_system(error: OSError) -> str:
    """What the system refused. Only printing fails with these numbers and without the name of a file."""
    if error.filename is not None:
        return f"cannot write to {error.filename}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF):
        return f"cannot write to standard output: {error.strerror}"
    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in where)
    return f"the system refused a request: {error.strerror or error}{place}"


def _with_notes(sentence: str, error: BaseException) -> str:
    return "; ".join([sentence, *getattr(error, "__notes__", [])])


@contextmanager
def noting_what_is_saved(directory: Path) -> Iterator[None]:
    """Add to the error that stops a run whether its directory holds a checkpoint."""
    from trpo_cli.runs.checkpoint import CHECKPOINT, PREVIOUS

    try:
        yield
    except StuckError:
        raise  # it says so itself, and the same command does not help
    except (RunError, BrokenPipeError, Interrupted) as error:
        saved = (directory / CHECKPOINT).exists() or (directory / PREVIOUS).exists()
        error.add_note("the last checkpoint is intact, the same command resumes" if saved else "nothing is saved yet")
        raise


def _leave(command: str, status: int, sentence: str, everywhere: bool = False) -> NoReturn:
    """Exit with ``status`` and a sentence; under torchrun only rank 0 prints it, unless ``everywhere``."""
    grouped = "RANK" in os.environ
    if everywhere or not grouped or _leads_group():
        say(command, sentence)
    if status == 128 + signal.SIGPIPE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python will still flush its buffer there
    if grouped:
        sys.stdout.flush()
        os._exit(status)  # an ordinary exit sometimes fails on the threads of a broken group
    raise SystemExit(status)


def _leads_group() -> bool:
    from trpo_cli.parallel.processes import prints_messages

    return prints_messages()


def say(command: str, sentence: str) -> None:
    with suppress(OSError):  # the error stream is closed
        os.write(2, f"{command}: {sentence}\n".encode())  # not print: a signal may have interrupted one
