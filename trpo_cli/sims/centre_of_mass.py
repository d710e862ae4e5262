"""The centre of mass of a planar chain of bodies, for a batch of positions at once."""

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.sims.base import Floats

_HINGE = int(mujoco.mjtJoint.mjJNT_HINGE)


class CentreOfMass:
    """The x of the centre of mass, minus the first position (the x of the root along its slide).

    In a plane, each body contributes a vector of fixed length that turns with the body. So the sum is linear in the
    cosines and sines of the bodies' angles, and an angle is a sum of hinge positions. The coefficients are fitted to
    MuJoCo's own centres of mass; the two agree to rounding.

    Raises:
        ConfigError: the model does not move in a plane, or its first position is not along x.
    """

    def __init__(self, model: Any, name: str) -> None:
        self._hinges = _hinges(model)
        n_terms = 2 * len(self._hinges)
        positions = np.random.default_rng(0).uniform(-np.pi, np.pi, size=(8 * n_terms, model.nq))
        data = mujoco.MjData(model)
        offsets = np.array([_exact(model, data, q) for q in positions]) - positions[:, 0]
        terms = self._terms(positions)
        self._coefficients = np.asarray(np.linalg.lstsq(terms, offsets, rcond=None)[0], dtype=np.float64)
        if np.abs(terms @ self._coefficients - offsets).max() > 1e-9:
            raise ConfigError(
                f"env.velocity_of=mass needs a body that moves in a plane; {name} does not: use env.velocity_of=root"
            )

    def __call__(self, positions: Floats) -> Floats:
        """Offsets `[n]` from the root in m, for ``positions`` `[n, nq]` in m and rad."""
        # A sum of products instead of `@`, because a lane's result must not depend on the size of the batch.
        offsets: Floats = (self._terms(positions) * self._coefficients).sum(axis=1)
        return offsets

    def _terms(self, positions: Floats) -> Floats:
        """Cosines and sines `[n, 2 bodies]` of the bodies' angles."""
        angles = (positions[:, None] * self._hinges).sum(axis=2)
        return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def _hinges(model: Any) -> NDArray[np.float64]:
    """Which positions add up to a body's angle, and with which sign: `[bodies, nq]`. Row 0 is the ground."""
    hinges = np.zeros((model.nbody, model.nq))
    for body in range(1, model.nbody):
        hinges[body] = hinges[model.body_parentid[body]]
        for joint in np.flatnonzero(model.jnt_bodyid == body):
            if model.jnt_type[joint] == _HINGE:
                hinges[body, model.jnt_qposadr[joint]] = np.sign(model.jnt_axis[joint].sum())
    return hinges


def _exact(model: Any, data: Any, position: Floats) -> float:
    """x of the centre of mass in m, by MuJoCo."""
    data.qpos[:] = position
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    return float(data.subtree_com[0, 0])
