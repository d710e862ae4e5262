"""The authors' continuous cart-pole (Section 8.1; Barto et al. 1983), vectorised in NumPy.

The paper gives only the name of the task; the equations and constants here are those of the authors' code. A state is
``[x, velocity, angle, angular velocity]`` in m, m/s, rad, rad/s. The observation is the state itself; scaling it is the
policy's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.sims.base import MAX_LANES, Continuous, Floats, Step
from trpo_cli.sims.cartpole_picture import cart_and_pole

_MAY_BE_ZERO = {"gravity", "cart_friction", "pole_friction", "reset_range", "balance_reward", "control_cost"}


@dataclass(frozen=True)
class CartPole:
    """A pole on a cart, pushed by a force of either sign.

    Paper: it does not give the reward, its weights and the time step; all of them follow the authors' code.

    Raises:
        ConfigError: a constant is out of its range.
    """

    gravity: float  # m/s²
    cart_mass: float  # kg
    pole_mass: float  # kg
    pole_length: float  # m, the l of Barto's equations: half the length of the pole
    cart_friction: float  # N, multiplied by the sign of the cart's velocity
    pole_friction: float  # N m s, multiplied by the pole's angular velocity
    dt: float  # s per control step
    force_limit: float  # N; larger forces are clipped
    position_limit: float  # m; the episode ends if |x| is greater
    angle_limit: float  # rad; the episode ends if |angle| is greater
    reset_range: float  # each coordinate of the first state is uniform in +- this
    balance_reward: float  # reward of a step before costs are subtracted
    control_cost: float  # cost per N² of force

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            bound = ">= 0" if field.name in _MAY_BE_ZERO else "> 0"
            if not (value >= 0 if field.name in _MAY_BE_ZERO else value > 0):
                raise ConfigError(f"env.{field.name}={value} must be {bound}")

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """One observation is the 4-vector state."""
        return (4,)

    @property
    def max_lanes(self) -> int:
        """A lane needs little memory beside its noise."""
        return MAX_LANES

    @property
    def n_state(self) -> int:
        """Two positions and two velocities."""
        return 4

    @property
    def action_space(self) -> Continuous:
        """The force on the cart, in N."""
        limit = np.array([self.force_limit])
        return Continuous(low=-limit, high=limit)

    def reset(self, rngs: Sequence[np.random.Generator]) -> Floats:
        """First states `[n, 4]`, every coordinate uniform in +- ``reset_range``."""
        draws = [rng.uniform(-self.reset_range, self.reset_range, size=4) for rng in rngs]
        return np.array(draws, dtype=np.float64).reshape(-1, 4)

    def observe(self, states: Floats) -> NDArray[np.float32]:
        """The states `[n, 4]` in physical units."""
        return np.asarray(states, dtype=np.float32)

    def step(self, states: Floats, actions: Floats) -> Step:
        """One semi-implicit Euler step from ``states`` `[n, 4]` under forces ``actions`` `[n, 1]` in N.

        Reward and ``terminated`` belong to the state that the step starts from, as in the authors' code. The first
        state outside the limits is still stepped once; this step has a reward of 0 and ends the episode. So an episode
        is one step longer than the time inside the limits, and each further step from a terminal state has a reward of
        0 as well.
        """
        position, velocity, angle, spin = states.T
        force = np.clip(actions[:, 0], -self.force_limit, self.force_limit)
        acceleration, angular_acceleration = self._accelerations(velocity, angle, spin, force)
        velocity = velocity + self.dt * acceleration
        spin = spin + self.dt * angular_acceleration
        moved = np.stack([position + self.dt * velocity, angle + self.dt * spin], axis=1)
        terminated = (np.abs(states[:, 0]) > self.position_limit) | (np.abs(angle) > self.angle_limit)
        rewards = self.balance_reward - (1.0 - np.cos(angle)) - self.control_cost * force**2
        new_states = np.stack([moved[:, 0], velocity, moved[:, 1], spin], axis=1)
        return Step(new_states, np.where(terminated, 0.0, rewards), terminated)

    def render(self, states: Floats) -> NDArray[np.uint8]:
        """Pictures `[n, height, width, 3]` of ``states`` `[n, 4]`: the cart on its track, with the limits as ends."""
        return np.array([cart_and_pole(s[0], s[2], self.pole_length, self.position_limit) for s in states])

    def _accelerations(self, velocity: Floats, angle: Floats, spin: Floats, force: Floats) -> tuple[Floats, Floats]:
        """Accelerations of cart (m/s²) and pole (rad/s²), each `[n]`, exactly as in the authors' code.

        The code measures the angle from the hanging position, so its cos has the opposite sign of Barto et al.'s. But
        the angular acceleration in the cart's equation has the same sign as theirs: the pole pushes the cart in the
        wrong direction. We keep this error, because it is part of the authors' task.
        """
        total_mass = self.cart_mass + self.pole_mass
        pole_moment = self.pole_mass * self.pole_length
        flipped = np.pi - angle
        sin, cos = np.sin(flipped), np.cos(flipped)
        drag = np.where(velocity > 0, self.cart_friction, -self.cart_friction)
        push = (-force - pole_moment * spin**2 * sin + drag) / total_mass
        torque = -self.gravity * sin + cos * push - self.pole_friction * spin / pole_moment
        inertia = self.pole_length * (4.0 / 3.0 - self.pole_mass * cos**2 / total_mass)
        angular_acceleration = -torque / inertia
        acceleration = (force + pole_moment * (spin**2 * sin - angular_acceleration * cos) - drag) / total_mass
        return acceleration, angular_acceleration
