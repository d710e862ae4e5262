"""A Gymnasium environment is a program of a stranger: whatever goes wrong in it becomes one sentence that names it."""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from trpo_cli.errors import ConfigError, Interrupted, RunError
from trpo_cli.sims.gymnasium_spaces import is_picture, seen, shape_seen

PATIENCE_S = 30.0  # a call that takes longer is spoken of


@contextmanager
def refusing(what: str, advice: str = "", place: bool = True) -> Iterator[None]:
    """Raise ConfigError for whatever leaves the block: an environment may raise SystemExit or KeyboardInterrupt too.

    what: the start of the sentence; place: the sentence says which line raised the error
    """
    try:
        yield
    except (ConfigError, Interrupted):
        raise
    except BaseException as error:
        raise ConfigError(f"{what} ({said(error, place)}){advice}") from error


def said(error: BaseException, place: bool = True) -> str:
    """What an error says, in one line, with its kind and the line of code that raised it if ``place``."""
    if os.environ.get("TRPO_TRACEBACK"):
        traceback.print_exception(error)
    if isinstance(error, RunError):  # one of our own sentences
        return str(error)
    try:
        text = " ".join(str(error).split())[:300].rstrip(".")
    except Exception:  # its own __str__ fails
        text = ""
    if not place:
        return text or type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    where = f", {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"


def fault_of_reset(answer: Any, space: Space) -> str:
    """What is wrong with what reset() returned; empty if nothing is."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        return f"reset() returned {_kind(answer)}; in Gymnasium it returns (observation, info)"
    return _fault_of_observation("reset()", answer[0], space)


def fault_of_step(answer: Any, space: Space) -> str:
    """What is wrong with what step() returned; empty if nothing is."""
    if not isinstance(answer, tuple) or len(answer) != 5:
        form = "(observation, reward, terminated, truncated, info)"
        return f"step() returned {_kind(answer)}; in Gymnasium it returns {form}"
    fault = _fault_of_observation("step()", answer[0], space) or _fault_of_reward(answer[1])
    flags = [name for name, value in zip(("terminated", "truncated"), answer[2:4], strict=True) if not is_flag(value)]
    if flags and not fault:
        value = answer[2] if flags[0] == "terminated" else answer[3]
        return f"step() returned {flags[0]}={_short(value)}, which is neither true nor false"
    return fault


def is_flag(value: Any) -> bool:
    """True for true and false: booleans, and the whole numbers 0 and 1."""
    x = np.asarray(value)
    return x.ndim == 0 and x.dtype.kind in "biu" and int(x) in (0, 1)


def _kind(answer: Any) -> str:
    return f"{len(answer)} values" if isinstance(answer, tuple) else f"one {type(answer).__name__}"


def _fault_of_observation(call: str, obs: Any, space: Space) -> str:
    if not isinstance(space, spaces.Box):
        with suppress(Exception):
            if isinstance(space, spaces.Discrete) and not (np.ndim(obs) == 0 and 0 <= obs - space.start < space.n):
                raise ValueError
            if seen(space, obs).shape == shape_seen(space):
                return ""
        return f"{call} returned the observation {_short(obs)}, which is not one of its space, {space}"
    try:
        shape = np.asarray(obs, np.float64).shape
    except Exception:
        return f"{call} returned an observation that is no array of numbers: {_short(obs)}"
    if shape != space.shape if is_picture(space) else int(np.prod(shape)) != int(np.prod(space.shape)):
        return f"{call} returned an observation of the shape {shape}, and the observation space has {space.shape}"
    return ""


def _fault_of_reward(reward: Any) -> str:
    if not isinstance(reward, str | bytes) and np.ndim(reward) == 0:
        with suppress(Exception):
            float(reward)
            return ""
    return f"step() returned the reward {_short(reward)}, and a reward has to be a single number"


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}…"


class Watch:
    """Says once on the error stream that a call into the environment has not come back for ``PATIENCE_S``."""

    def __init__(self, name: str) -> None:
        self.calls = 0  # so many have begun
        self.inside = ""  # the call that is running now
        self._name = name
        Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        before = -1
        while not (self.inside and self.calls == before):
            before = self.calls
            sleep(PATIENCE_S)
        says = f"{self._name}: {self.inside} has not come back for {PATIENCE_S:.0f} s; if it never does, stop with "
        advice = "Ctrl-C, twice, and try workers=1: several copies of it may not be able to run side by side"
        with suppress(OSError):
            os.write(2, f"{says}{advice}\n".encode())
