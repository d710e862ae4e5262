"""Pictures of simulator states: MuJoCo's own camera, and a cart with a pole in NumPy."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError

if TYPE_CHECKING:
    import mujoco

Picture = NDArray[np.uint8]  # [height, width, 3]

HEIGHT, WIDTH = 360, 480  # pixels; within MuJoCo's frame buffer of 480 x 640
WHITE, INK, TRACK, CART, POLE = ((255, 255, 255), (60, 60, 60), (190, 190, 190), (70, 70, 80), (200, 100, 40))
MARGIN = 1.25  # width of the cart-pole's picture, in widths of its track
THICKNESS = 0.05  # m, half the pole's
CART_SIZE = (0.25, 0.12)  # m, half width and half height

NO_GL = (
    "video= draws MuJoCo's bodies with OpenGL, which cannot be had here ({reason}); install EGL (Debian: "
    "apt install libegl1 libgl1-mesa-dri), or libosmesa6 and set MUJOCO_GL=osmesa"
)


class MujocoCamera:
    """Draws states of one model; it holds an OpenGL context, which is made once.

    Raises:
        ConfigError: there is no OpenGL to draw with.
    """

    def __init__(self, model: "mujoco.MjModel") -> None:
        import mujoco

        self._model, self._data = model, mujoco.MjData(model)
        try:
            self._renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
        except Exception as error:  # each back end fails in its own way, AttributeError among them
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise ConfigError(NO_GL.format(reason=reason)) from error
        self._camera = "track" if any(model.camera(i).name == "track" for i in range(model.ncam)) else -1
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0  # the feet's touch sensors are no part of the body
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0  # without a graphics card they cost more than all the rest

    def __call__(self, states: NDArray[np.float64]) -> Picture:
        """Full-physics states ``[n, S]`` -> pictures ``[n, height, width, 3]``."""
        import mujoco

        pictures = np.empty((len(states), HEIGHT, WIDTH, 3), np.uint8)
        for picture, state in zip(pictures, states, strict=True):
            mujoco.mj_setState(self._model, self._data, state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
            mujoco.mj_forward(self._model, self._data)
            self._renderer.update_scene(self._data, self._camera, self._options)
            self._renderer.render(out=picture)
        return pictures


def cart_and_pole(position: float, angle: float, pole_length: float, position_limit: float) -> Picture:
    """A cart at ``position`` (m) with its pole at ``angle`` (rad, from upright, to the right).

    pole_length: half the pole, m. position_limit: m, marked on the track.
    """
    scale = WIDTH / (2 * MARGIN * position_limit)  # pixels a metre
    picture = np.full((HEIGHT, WIDTH, 3), WHITE, np.uint8)
    ground = HEIGHT - 60.0

    def at(x: float, height: float) -> tuple[float, float]:
        """Pixel of a place in metres, the axle of a cart in the middle at the origin."""
        return WIDTH / 2 + scale * x, ground - scale * height

    _stroke(picture, at(-position_limit, 0), at(position_limit, 0), 1.5, TRACK)
    for end in (-position_limit, position_limit):
        _stroke(picture, at(end, -0.1), at(end, 0.1), 1.5, INK)
    half_width, half_height = CART_SIZE
    thickness = scale * half_height
    _stroke(picture, at(position - half_width, 0), at(position + half_width, 0), thickness, CART)
    tip = position + 2 * pole_length * np.sin(angle), 2 * pole_length * np.cos(angle)
    _stroke(picture, at(position, 0), at(*tip), max(scale * THICKNESS, 1.5), POLE)
    return picture


def _stroke(picture: Picture, start: tuple[float, float], end: tuple[float, float], radius: float, colour: Any) -> None:
    """Draw a line with round ends, its edge smooth, wherever it lies within the picture."""
    (x0, y0), (x1, y1) = start, end
    reach = radius + 1
    left, right = (int(np.clip(x, 0, WIDTH)) for x in (min(x0, x1) - reach, max(x0, x1) + reach + 1))
    top, bottom = (int(np.clip(y, 0, HEIGHT)) for y in (min(y0, y1) - reach, max(y0, y1) + reach + 1))
    y, x = np.mgrid[top:bottom, left:right].astype(float)
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
    distance = np.hypot(x - x0 - along * dx, y - y0 - along * dy)
    cover = np.clip(radius + 0.5 - distance, 0, 1)[..., None]
    box = picture[top:bottom, left:right]
    box[:] = (box * (1 - cover) + np.asarray(colour) * cover).round()
