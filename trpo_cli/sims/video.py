"""Films of episodes: the simulator draws each state directly after its step, and ffmpeg writes an MP4 file."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.sims.base import ActionSpace, Drawable, Filmable, Step, Timed

FRAMES_PER_SECOND = 60.0  # at most; if steps follow faster, some are left out of the film
STEP_S = 4 / 60  # seconds per step if the simulator does not declare it (see `Timed`)
LEAST_HEIGHT = 300  # pixels; smaller pictures are enlarged by a whole factor


def to_film(path: Path, sim: object) -> Any:
    """The simulator that draws the states of ``sim``; ConfigError unless its film can be written to this file."""
    if path.suffix != ".mp4":
        raise ConfigError(f"video={path} must end in .mp4")
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"video={path} needs ffmpeg to be written, and ffmpeg is missing: pip install imageio-ffmpeg"
        ) from error
    drawn = sim.for_film() if isinstance(sim, Filmable) else sim
    if not isinstance(drawn, Drawable):
        raise ConfigError(f"video={path}: {type(sim).__name__} has no render(states), so it cannot be filmed")
    return drawn


class Filmed:
    """A simulator that draws a state directly after the step to it, because an emulator shows only its last frame.

    It plays one lane at a time. show: takes pictures ``[1, h, w, 3]``. every: one of this many states is drawn.
    """

    def __init__(self, sim: Any, show: Callable[[NDArray[np.uint8]], None], every: int) -> None:
        self._sim, self._show, self._every = sim, show, every
        self._n_steps = 0

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """That of the simulator."""
        return self._sim.obs_shape

    @property
    def action_space(self) -> ActionSpace:
        """That of the simulator."""
        return self._sim.action_space

    @property
    def n_state(self) -> int:
        """That of the simulator."""
        return self._sim.n_state

    @property
    def max_lanes(self) -> int:
        """That of the simulator."""
        return self._sim.max_lanes

    def observe(self, states: Any) -> NDArray[Any]:
        """The simulator's observations."""
        return self._sim.observe(states)

    def reset(self, rngs: Sequence[np.random.Generator]) -> Any:
        """The simulator's first states; they are drawn."""
        states = self._sim.reset(rngs)
        self._n_steps = 0
        self._show(self._sim.render(states))
        return states

    def step(self, states: Any, actions: NDArray[Any]) -> Step:
        """The simulator's step; every ``every``-th new state is drawn."""
        step: Step = self._sim.step(states, actions)
        self._n_steps += 1
        if self._n_steps % self._every == 0:
            self._show(self._sim.render(step.states))
        return step


@contextmanager
def film(path: Path, sim: Any) -> Iterator[Filmed]:
    """Write what the yielded simulator plays to ``path``, one episode after the other, at the speed of the simulation.

    sim: also a `Drawable`. Raises RunError if the file cannot be written; an earlier file at ``path`` then stays.
    """
    import imageio.v2 as imageio

    step_s = float(sim.dt) if isinstance(sim, Timed) else STEP_S
    every = max(ceil(1 / (step_s * FRAMES_PER_SECOND) - 1e-9), 1)
    staged = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    fps = 1 / (step_s * every)
    try:
        with imageio.get_writer(
            staged, format="FFMPEG", fps=fps, macro_block_size=2, ffmpeg_log_level="error"
        ) as writer:

            def show(pictures: NDArray[np.uint8]) -> None:
                for picture in _enlarged(pictures):
                    writer.append_data(picture)  # type: ignore[attr-defined]

            yield Filmed(sim, show, every)
        os.replace(staged, path)
    except OSError as error:
        raise RunError(f"cannot write to {path}: {error.strerror or str(error).splitlines()[0]}") from error
    finally:
        staged.unlink(missing_ok=True)


def _enlarged(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pictures ``[n, h, w, 3]``, at least ``LEAST_HEIGHT`` high; each pixel becomes a square."""
    factor = ceil(LEAST_HEIGHT / pictures.shape[1])
    return pictures.repeat(factor, 1).repeat(factor, 2) if factor > 1 else pictures
