"""MuJoCo's side of a planar body: it compiles the model, and makes a control step of a batch of states in one call."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import mujoco
import numpy as np
from mujoco.rollout import Rollout
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.sims.base import Floats

INTEGRATORS = {
    "euler": mujoco.mjtIntegrator.mjINT_EULER,
    "rk4": mujoco.mjtIntegrator.mjINT_RK4,
    "implicit": mujoco.mjtIntegrator.mjINT_IMPLICIT,
    "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
}

# m, rad, m/s, rad/s: no stable body comes near this limit. MuJoCo gives up at accelerations of 1e10. These leave
# velocities behind that are of the order of this limit. MuJoCo's own limit on positions and velocities is 1e10: its
# test would come one step too late.
_UNSTABLE = 1e6


class ModelSettings(Protocol):
    """The settings of a body that decide its model; `sims.locomotion.Locomotion` explains each of them."""

    @property
    def model(self) -> str: ...
    @property
    def frame_skip(self) -> int: ...
    @property
    def timestep(self) -> float | None: ...
    @property
    def integrator(self) -> str: ...
    @property
    def torque_limits(self) -> Sequence[float] | None: ...
    @property
    def feet(self) -> Sequence[str]: ...
    @property
    def impact_cost(self) -> float: ...


class Engine:
    """The C side of one simulator: model, scratch data and buffers. A step never depends on the steps before it."""

    def __init__(self, sim: ModelSettings) -> None:
        _silence_mujoco()
        self.model = _compile(sim)
        self.gear: Floats = self.model.actuator_gear[:, 0].copy()
        self._data = [mujoco.MjData(self.model)]
        self._rollout = Rollout(nthread=0)  # workers are processes, each with one thread
        self._n_steps = sim.frame_skip
        self._allocate(0)

    def _allocate(self, n: int) -> None:
        model = self.model
        n_state = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        self._models = [model] * n
        self._start = np.empty((n, n_state))
        self._controls = np.empty((n, self._n_steps, model.nu))
        self._states = np.empty((n, self._n_steps, n_state))
        self._sensors = np.empty((n, self._n_steps, model.nsensordata))

    def advance(self, states: Floats, controls: Floats) -> tuple[Floats, Floats]:
        """States `[n, S]` after the control step and the feet's normal forces `[n, frame_skip, feet]` in N during it.

        The forces are those at the beginning of each simulator step, because MuJoCo reads its sensors before it
        integrates. The next call overwrites the array of forces.
        """
        n = len(states)
        if n > len(self._models):
            self._allocate(n)
        self._start[:n] = states
        self._controls[:n] = controls[:, None]
        self._rollout.rollout(
            self._models[:n],
            self._data,
            self._start[:n],
            self._controls[:n],
            nstep=self._n_steps,
            state=self._states[:n],
            sensordata=self._sensors[:n],
            skip_checks=True,
        )
        return self._states[:n, -1].copy(), self._sensors[:n]


def _compile(sim: ModelSettings) -> Any:
    """The model, with a touch sensor on each foot if impacts have a cost."""
    spec = mujoco.MjSpec.from_file(str(assets() / sim.model))
    for name in sim.feet if sim.impact_cost > 0 else []:
        _add_touch_sensor(spec, name)
    with warnings.catch_warnings():  # Gymnasium's half-cheetah file uses an attribute that MuJoCo 4 calls deprecated
        warnings.filterwarnings("ignore", message="compiler attribute 'settotalmass'")
        model = spec.compile()
    if sim.timestep is not None:
        model.opt.timestep = sim.timestep
    if sim.integrator != "model":
        model.opt.integrator = INTEGRATORS[sim.integrator]
    if sim.torque_limits is not None:
        if len(sim.torque_limits) != model.nu:
            raise ConfigError(
                f"env.torque_limits={list(sim.torque_limits)} must have {model.nu} numbers, one for each joint of "
                f"{sim.model}"
            )
        model.actuator_gear[:, 0] = sim.torque_limits / model.actuator_ctrlrange[:, 1]
    # Without this flag MuJoCo silently resets an unstable lane to its rest position.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    # One body has one island of constraints. Looking for more changes nothing, and takes 8% of the hopper's time.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    return model


def _add_touch_sensor(spec: Any, geom_name: str) -> None:
    """Add a sensor of the normal contact forces on the body of a foot. Its site is a sphere around the whole geom."""
    geom = spec.geom(geom_name)
    if geom is None:
        known = ", ".join(geom.name for geom in spec.geoms if geom.name)
        raise ConfigError(f"env.feet names the geom {geom_name!r}, which the model does not have; it has {known}")
    site = f"{geom_name}_touch"
    # A touch sensor counts the contacts of its body inside its site. A contact lies between two surfaces, and therefore
    # it may lie just outside the geom: double the radius.
    radius = 2.0 * float(np.sum(geom.size))
    geom.parent.add_site(name=site, pos=geom.pos, type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[radius, 0.0, 0.0])
    spec.add_sensor(name=site, type=mujoco.mjtSensor.mjSENS_TOUCH, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=site)


def assets() -> Path:
    """Gymnasium's folder of MuJoCo models, found without importing Gymnasium."""
    spec = find_spec("gymnasium")
    if spec is None or spec.origin is None:
        raise ConfigError("env.model needs Gymnasium's model files: install gymnasium")
    return Path(spec.origin).parent / "envs" / "mujoco" / "assets"


def _silence_mujoco() -> None:
    """Keep MuJoCo from writing MUJOCO_LOG.TXT into the user's folder; an unstable lane is reported as terminated."""
    config = mujoco.MjLogConfig.get()
    config.logto_file = False
    config.logto_console = False
    config.set()


def unstable(states: Floats) -> NDArray[np.bool_] | None:
    """Which of ``states`` `[n, S]` have blown up, `[n]`; None if none has, which is nearly always so."""
    if np.abs(states).max() < _UNSTABLE:  # false if there is a NaN
        return None
    return ~np.all(np.abs(states) < _UNSTABLE, axis=1)
