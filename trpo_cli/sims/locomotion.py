"""Swimmers, hoppers, walkers and cheetahs (Section 8.1) on MuJoCo, a batch of states per call.

One class serves the paper's tasks and Gymnasium's v5 tasks, with Gymnasium's own model files; the differences are
numbers in YAML. A state is MuJoCo's full-physics vector ``[time, positions, velocities]``. The contact solver has no
warm start, so a step depends only on state and control, and a stored state restarts bit for bit. Gymnasium's solver has
a warm start; its steps differ from these by the solver's rounding (1e-13).
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.sims.base import MAX_LANES, Continuous, Floats, Step
from trpo_cli.sims.camera import MujocoCamera
from trpo_cli.sims.centre_of_mass import CentreOfMass
from trpo_cli.sims.mujoco_engine import INTEGRATORS, Engine, assets, unstable

_RANGES = ("healthy_height", "healthy_angle", "healthy_state")
_NOT_NEGATIVE = ("control_cost", "alive_bonus", "impact_cost", "excluded_positions", "reset_noise")


@dataclass(frozen=True)
class Locomotion:
    """A planar body. Its reward is v_x - control cost - impact cost + a bonus while it is healthy.

    A state is healthy if height, angle and the remaining numbers lie strictly within their ranges. The first unhealthy
    state ends the episode and earns no bonus. A state that blows up (it has NaN, or numbers beyond 1e6) ends the
    episode too: the lane keeps the state that it had, and gets a reward of 0, so that later numbers stay finite.

    Paper: v_x is the mean velocity over the control step, as in Gymnasium. It is the velocity of the centre of mass, as
    in the authors' code, and not of the root joint. The paper does not give the models, time steps, torque limits and
    initial states; they are Gymnasium's unless the configuration says otherwise.

    Raises:
        ConfigError: a field is out of its range, or the model file or a foot geom does not exist.
    """

    model: str  # name of a file among Gymnasium's MuJoCo models
    frame_skip: int  # simulator steps per control step
    timestep: float | None  # s per simulator step; None: the model file's
    integrator: str  # "model": the model file's; or euler, rk4, implicit, implicitfast
    torque_limits: list[float] | None  # N m at full control, one per joint; None: the model file's
    velocity_of: str  # "mass": v_x is the centre of mass's; "root": the root joint's, as in Gymnasium
    control_cost: float  # cost per unit² of the sum of squared controls
    control_cost_unit: str  # "torque": clipped joint torque in N m; "control": the action as given, not clipped
    alive_bonus: float  # reward of a step to a healthy state
    healthy_height: list[float]  # (low, high) of the second position, m
    healthy_angle: list[float]  # (low, high) of the third position, rad
    healthy_state: list[float]  # (low, high) of every position and velocity except the first two positions
    feet: list[str]  # geoms whose contact forces have a cost
    impact_cost: float  # cost per N² of the feet's squared normal forces; 0: no sensors are added
    excluded_positions: int  # how many of the first positions are left out of the observation
    velocity_clip: float  # observed velocities are clipped to +- this, in m/s and rad/s
    reset_noise: float  # half-width of the uniform noise on positions, and scale of the noise on velocities
    reset_velocity: str  # noise on velocities; "uniform": of half-width reset_noise; "normal": of this deviation

    def __post_init__(self) -> None:
        _check_one_of("velocity_of", self.velocity_of, ("mass", "root"))
        _check_one_of("control_cost_unit", self.control_cost_unit, ("torque", "control"))
        _check_one_of("reset_velocity", self.reset_velocity, ("uniform", "normal"))
        _check_one_of("integrator", self.integrator, ("model", *INTEGRATORS))
        _check_one_of("model", self.model, sorted(path.name for path in assets().glob("*.xml")))
        if self.frame_skip < 1:
            raise ConfigError(f"env.frame_skip={self.frame_skip} must be >= 1")
        if self.timestep is not None and not 0 < self.timestep < math.inf:
            raise ConfigError(f"env.timestep={self.timestep} must be > 0 and finite (null for the model file's)")
        for limit in self.torque_limits or []:
            if not 0 < limit < math.inf:
                raise ConfigError(f"env.torque_limits={list(self.torque_limits or [])} must be > 0 and finite")
        if not self.velocity_clip > 0:
            raise ConfigError(f"env.velocity_clip={self.velocity_clip} must be > 0 (.inf for none)")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"env.{name}={getattr(self, name)} must be >= 0 and finite")
        for name in _RANGES:
            bounds = getattr(self, name)
            if len(bounds) != 2 or not bounds[0] < bounds[1]:
                raise ConfigError(f"env.{name}={list(bounds)} must be [low, high] with low < high")
        if self.impact_cost > 0 and not self.feet:
            raise ConfigError(f"env.feet=[] must name the geoms of the feet if env.impact_cost={self.impact_cost} > 0")

    def unused(self) -> dict[str, str]:
        """The feet, if their impacts cost nothing."""
        return {"feet": f"env.impact_cost={self.impact_cost}"} if self.impact_cost == 0 else {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), astuple(self)  # the engine holds C objects; each copy makes its own engine

    @property
    def max_lanes(self) -> int:
        """A lane needs little memory beside its noise."""
        return MAX_LANES

    @property
    def n_state(self) -> int:
        """Positions and velocities."""
        return int(self._engine.model.nq + self._engine.model.nv)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """One observation: positions without the excluded ones, then velocities."""
        return (self.n_state - self.excluded_positions,)

    @cached_property
    def action_space(self) -> Continuous:
        """The model's control range."""
        low, high = self._engine.model.actuator_ctrlrange.T.copy()
        return Continuous(low=low, high=high)

    @cached_property
    def dt(self) -> float:
        """Seconds per control step."""
        return float(self._engine.model.opt.timestep * self.frame_skip)

    def reset(self, rngs: Sequence[np.random.Generator]) -> Floats:
        """First states `[n, S]`: the model's rest position plus noise; lane i draws from ``rngs[i]``."""
        model = self._engine.model
        states = np.zeros((len(rngs), 1 + model.nq + model.nv))
        for state, rng in zip(states, rngs, strict=True):
            state[1 : 1 + model.nq] = model.qpos0 + rng.uniform(-self.reset_noise, self.reset_noise, size=model.nq)
            if self.reset_velocity == "normal":
                state[1 + model.nq :] = self.reset_noise * rng.standard_normal(model.nv)
            else:
                state[1 + model.nq :] = rng.uniform(-self.reset_noise, self.reset_noise, size=model.nv)
        return states

    def observe(self, states: Floats) -> NDArray[np.float32]:
        """Observations `[n, O]` of ``states`` `[n, S]`: positions and clipped velocities, in physical units."""
        observations = np.array(states[:, 1 + self.excluded_positions :], dtype=np.float32)
        if self.velocity_clip < math.inf:
            velocities = observations[:, -self._engine.model.nv :]
            np.maximum(velocities, -self.velocity_clip, out=velocities)  # np.clip takes four times as long
            np.minimum(velocities, self.velocity_clip, out=velocities)
        return observations

    def step(self, states: Floats, actions: Floats) -> Step:
        """``frame_skip`` simulator steps from ``states`` `[n, S]` with constant ``actions`` `[n, A]`."""
        if len(states) == 0:  # mujoco.rollout crashes on an empty batch
            return Step(np.copy(states), np.zeros(0), np.zeros(0, dtype=bool))
        controls = np.minimum(np.maximum(actions, self.action_space.low), self.action_space.high)
        new_states, forces = self._engine.advance(states, controls)
        lost = unstable(new_states)
        if lost is not None:
            new_states[lost] = states[lost]
            forces[lost] = 0.0
        healthy = self._healthy(new_states)
        rewards = self._velocities(states, new_states) + self.alive_bonus * healthy
        efforts = controls * self._engine.gear if self.control_cost_unit == "torque" else actions
        rewards -= self.control_cost * np.square(efforts).sum(axis=1)
        if self.impact_cost > 0:
            rewards -= self.impact_cost * np.square(forces).sum(axis=2).mean(axis=1)
        if lost is None:
            return Step(new_states, rewards, ~healthy)
        rewards[lost] = 0.0
        return Step(new_states, rewards, lost | ~healthy)

    def render(self, states: Floats) -> NDArray[np.uint8]:
        """Pictures `[n, height, width, 3]` of ``states`` `[n, S]`, seen from beside the body; needs OpenGL."""
        return self._camera(states)

    @cached_property
    def _camera(self) -> MujocoCamera:
        return MujocoCamera(self._engine.model)

    def _velocities(self, states: Floats, new_states: Floats) -> Floats:
        """v_x `[n]`: mean velocity over the control step from ``states`` to ``new_states``, `[n, S]` each."""
        moved = new_states[:, 1] - states[:, 1]
        if self.velocity_of == "mass":
            n_positions = self._engine.model.nq
            moved += self._centre_of_mass(new_states[:, 1 : 1 + n_positions])
            moved -= self._centre_of_mass(states[:, 1 : 1 + n_positions])
        return moved / self.dt

    @cached_property
    def _centre_of_mass(self) -> CentreOfMass:
        return CentreOfMass(self._engine.model, self.model)

    def _healthy(self, states: Floats) -> NDArray[np.bool_]:
        """Whether each of ``states`` `[n, S]` lies strictly within the healthy ranges, `[n]`."""
        if self._healthy_box is None:
            return np.ones(len(states), dtype=bool)
        low, high = self._healthy_box
        values = states[:, 2:]
        return np.logical_and.reduce((low < values) & (values < high), axis=1)  # np.all takes twice as long

    @cached_property
    def _healthy_box(self) -> tuple[Floats, Floats] | None:
        """Bounds of every number except the first position, `[n_state - 1]` each; None if there are no bounds."""
        low, high = (np.full(self.n_state - 1, bound) for bound in self.healthy_state)
        low[0], high[0] = self.healthy_height
        low[1], high[1] = max(low[1], self.healthy_angle[0]), min(high[1], self.healthy_angle[1])
        return (low, high) if np.isfinite(np.concatenate([low, high])).any() else None

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self)


def _check_one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"env.{name}={value} must be one of {', '.join(choices)}")
