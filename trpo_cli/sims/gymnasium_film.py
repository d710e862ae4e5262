"""A Gymnasium environment that draws its states, for films; training makes environments that draw nothing."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.sims.camera import NO_GL
from trpo_cli.sims.gymnasium import Gymnasium, States
from trpo_cli.sims.gymnasium_guard import refusing
from trpo_cli.sims.gymnasium_pool import Environments

STEPS_PER_SECOND = 30.0  # of the film if the environment does not say it


@dataclass(frozen=True)
class Drawn(Gymnasium):
    """The environment made with ``render_mode="rgb_array"``.

    Raises:
        ConfigError: it offers no pictures, or cannot draw them on this machine.
    """

    def __post_init__(self) -> None:
        """Draw the first state, before any episode is played."""
        assert self._shape

    @cached_property
    def _one(self) -> Environments:
        """Environments of the film alone."""
        return Environments(self.id, self.kwargs, reusable=False)

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        """Height, width and 3: the shape of a picture."""
        needs = "; a film needs an environment that takes render_mode=rgb_array, and whose render() returns a picture"
        try:
            with refusing(f"env.id={self.id} cannot be filmed", needs):
                env = self._one.new()
                env.reset(seed=0)
                picture: Any = env.render()
                self._one.retire(env)
        except ConfigError as error:
            if error.__cause__ is not None and "GL" in str(error.__cause__):
                raise ConfigError(NO_GL.format(reason=" ".join(str(error.__cause__).split())[:100])) from error
            raise
        if not _is_picture(picture):
            kind = "nothing" if picture is None else f"a {type(picture).__name__}"
            raise ConfigError(f"env.id={self.id} cannot be filmed (its render() returns {kind}){needs}")
        return picture.shape

    @cached_property
    def dt(self) -> float:
        """Seconds per step, as the environment's metadata say."""
        env = self._one.new()
        fps = float(env.metadata.get("render_fps") or STEPS_PER_SECOND)
        self._one.retire(env)
        return 1 / fps

    def render(self, states: States) -> NDArray[np.uint8]:
        """Pictures `[n, height, width, 3]` of ``states``; each has to be the newest of its episode.

        Raises:
            RunError: a picture has another shape than the first one.
        """
        pictures = [state.episode.env.render() for state in states]
        if not all(_is_picture(picture) and picture.shape == self._shape for picture in pictures):
            raise RunError(f"env.id={self.id} cannot be filmed: its pictures do not all have the shape {self._shape}")
        return np.stack(pictures)


def _is_picture(picture: Any) -> bool:
    return isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,)
