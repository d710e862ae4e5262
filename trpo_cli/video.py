"""Films of episodes: the simulator draws their states, ffmpeg writes them as an MP4 file."""

import os
from collections.abc import Iterable
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.sims.base import Drawable

FRAMES_PER_SECOND = 60.0  # at most; states in between are left out
STEP_S = 4 / 60  # seconds a step of a simulator that does not say: four frames of Atari's
LEAST_HEIGHT = 300  # pixels; smaller pictures are enlarged by a whole factor
AT_ONCE = 32  # pictures drawn at a time


def require_film(path: Path, sim: object) -> None:
    """Raise ConfigError where no film of ``sim`` can be written to a file of this name."""
    if path.suffix != ".mp4":
        raise ConfigError(f"video={path} must end in .mp4")
    if not isinstance(sim, Drawable):
        raise ConfigError(f"video={path}: {type(sim).__name__} has no render(states), so there is nothing to film")
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise ConfigError(f"video={path} is written by ffmpeg, which is missing: pip install imageio-ffmpeg") from error


def film(path: Path, sim: Any, episodes: Iterable[Any]) -> None:
    """Write the states of each episode, in order of time, one episode after the other, played as fast as it happened.

    sim: a `Drawable`. Raises RunError where the disk or ffmpeg refuses; what stood under ``path`` then stays.
    """
    import imageio.v2 as imageio

    step = float(getattr(sim, "dt", STEP_S))
    every = max(ceil(1 / (step * FRAMES_PER_SECOND) - 1e-9), 1)
    staged = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    try:
        with imageio.get_writer(
            staged, format="FFMPEG", fps=1 / (step * every), macro_block_size=2, ffmpeg_log_level="error"
        ) as writer:
            for states in episodes:
                shown = np.arange(0, len(states), every)
                for some in np.split(shown, range(AT_ONCE, len(shown), AT_ONCE)):
                    for picture in _enlarged(sim.render(states[some])):
                        writer.append_data(picture)  # type: ignore[attr-defined]
        os.replace(staged, path)
    except OSError as error:
        raise RunError(f"cannot write to {path}: {error.strerror or str(error).splitlines()[0]}") from error
    finally:
        staged.unlink(missing_ok=True)


def _enlarged(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``[n, h, w, 3]`` of at least ``LEAST_HEIGHT``, each pixel a square of its colour."""
    factor = ceil(LEAST_HEIGHT / pictures.shape[1])
    return pictures.repeat(factor, 1).repeat(factor, 2) if factor > 1 else pictures
