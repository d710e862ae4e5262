"""Pictures of MuJoCo's states, drawn by MuJoCo's own renderer."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError

if TYPE_CHECKING:
    import mujoco

Picture = NDArray[np.uint8]  # [height, width, 3]

HEIGHT, WIDTH = 360, 480  # pixels; MuJoCo's frame buffer has 480 x 640
NO_GL = (
    "video=… needs OpenGL to draw MuJoCo's bodies, and OpenGL does not work here ({reason}); install EGL (Debian: "
    "apt install libegl1 libgl1-mesa-dri), or install libosmesa6 and set MUJOCO_GL=osmesa"
)


class MujocoCamera:
    """Draws states of one model. It holds an OpenGL context, so make one camera and keep it.

    Raises:
        ConfigError: OpenGL does not work on this machine.
    """

    def __init__(self, model: "mujoco.MjModel") -> None:
        import mujoco

        self._model, self._data = model, mujoco.MjData(model)
        try:
            self._renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
        except Exception as error:  # each back end raises its own kind of error, even AttributeError
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise ConfigError(NO_GL.format(reason=reason)) from error
        self._camera = "track" if any(model.camera(i).name == "track" for i in range(model.ncam)) else -1
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0  # do not draw the touch sensors of the feet
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0  # without a graphics card these two take more time than all the rest

    def __call__(self, states: NDArray[np.float64]) -> Picture:
        """Pictures ``[n, height, width, 3]`` of full-physics states ``[n, S]``."""
        import mujoco

        pictures = np.empty((len(states), HEIGHT, WIDTH, 3), np.uint8)
        for picture, state in zip(pictures, states, strict=True):
            mujoco.mj_setState(self._model, self._data, state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
            mujoco.mj_forward(self._model, self._data)
            self._renderer.update_scene(self._data, self._camera, self._options)
            self._renderer.render(out=picture)
        return pictures
