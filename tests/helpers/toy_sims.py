"""Small simulators whose answers are known, and the shipped components with the numbers that a test gives them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from trpo_cli.config.build import build
from trpo_cli.config.schema import conf_dir
from trpo_cli.optimizers.trust_region import TrustRegion
from trpo_cli.policies.mlp import Mlp
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.rollout import Rollout
from trpo_cli.samplers.single_path import SinglePath
from trpo_cli.samplers.vine import Vine
from trpo_cli.sims.base import Continuous, Discrete, Simulator, Step
from trpo_cli.sims.cartpole import CartPole

Array = NDArray[Any]


@dataclass(frozen=True)
class Chain:
    """Places 0 … ``length`` in a row; choices left, stay, right; the last place ends the episode.

    A step pays ``rewards[place, choice]``. The last place is absorbing and pays nothing; there, the observation is 0.
    """

    length: int = 4

    obs_shape = property(lambda self: (self.length,))  # one-hot
    action_space = Discrete((3,))
    n_state = 1
    max_lanes = 1024

    @property
    def rewards(self) -> Array:
        """`[length, 3]`."""
        return np.cos(3.0 * np.arange(self.length)[:, None] + np.arange(3))

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        return np.array([rng.integers(self.length) for rng in rngs], dtype=float).reshape(-1, 1)

    def observe(self, states: Array) -> NDArray[np.float32]:
        return (states == np.arange(self.length)).astype(np.float32)

    def step(self, states: Array, actions: Array) -> Step:
        place, choice = states[:, 0].astype(int), actions[:, 0]
        paid = np.vstack([self.rewards, np.zeros(3)])[place, choice]
        after = np.where(place == self.length, place, np.clip(place + choice - 1, 0, self.length))
        return Step(after[:, None].astype(float), paid, after == self.length)

    def q_values(self, probabilities: Array, gamma: float, horizon: int) -> Array:
        """Q `[length, 3]` of ``horizon`` steps, all but the first by the policy `[length, 3]`."""
        after = np.clip(np.arange(self.length)[:, None] + np.arange(3) - 1, 0, self.length)
        value = np.zeros(self.length + 1)
        for _ in range(horizon):
            q = self.rewards + gamma * value[after]
            value[:-1] = (probabilities * q).sum(1)
        return q


@dataclass(frozen=True)
class Point:
    """A point on a line, pushed left or right: a step pays 1 - x², and leaving [-2, 2] ends the episode."""

    obs_shape = (1,)
    action_space = Continuous(np.array([-1.0]), np.array([1.0]))
    n_state = 1
    max_lanes = 1024

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        return np.array([rng.uniform(-1.5, 1.5) for rng in rngs]).reshape(-1, 1)

    def observe(self, states: Array) -> NDArray[np.float32]:
        return states.astype(np.float32)

    def step(self, states: Array, actions: Array) -> Step:
        after = states + 0.3 * actions
        return Step(after, 1 - states[:, 0] ** 2, np.abs(after[:, 0]) > 2)


@dataclass(frozen=True)
class Echo:
    """Pays the control itself (centre 1, half-range 2). A state is (steps left, a number of the lane's own)."""

    longest: int = 6
    calls: list[int] = field(default_factory=list)  # lanes of every call of `step`

    obs_shape = (2,)
    action_space = Continuous(np.array([-1.0]), np.array([3.0]))
    n_state = 2
    max_lanes = 1024

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        return np.array([(rng.integers(1, self.longest + 1), rng.random()) for rng in rngs]).reshape(-1, 2)

    def observe(self, states: Array) -> NDArray[np.float32]:
        return states.astype(np.float32)

    def step(self, states: Array, actions: Array) -> Step:
        self.calls.append(len(states))
        return Step(states - (1, 0), actions[:, 0].copy(), states[:, 0] <= 1)


def mlp(
    sim: Simulator, hidden_sizes: tuple[int, ...] = (), nonlinearity: str = "tanh", **changes: Any
) -> NetworkPolicy:
    """A policy in double precision for ``sim``, its other numbers as shipped."""
    numbers = {"precision": "float64", "input_scale": "none", "input_clip": float("inf")} | changes
    config = shipped("policy/mlp", hidden_sizes=list(hidden_sizes), nonlinearity=nonlinearity, **numbers)
    assert isinstance(config, Mlp)
    return config.build(sim.obs_shape, sim.action_space)


def trpo(**changes: Any) -> TrustRegion:
    return shipped("optimizer/trpo", **{"fisher_fraction": 1.0, "fisher_min_states": 0, **changes})


def single(**changes: Any) -> SinglePath:
    numbers = {"gamma": 0.9, "n_paths": 16, "steps_per_iteration": None}
    return shipped("sampler/single", **{**numbers, **changes})


def vine(**changes: Any) -> Vine:
    numbers = {"gamma": 0.9, "n_trunks": 8, "n_states": 12, "n_actions": 3, "branch_length": 5}
    budgets = {"trunk_steps": None, "steps_per_iteration": None, "proposal": "policy"}
    return shipped("sampler/vine", **{**numbers, **budgets, **changes})


def cartpole() -> CartPole:
    return build(OmegaConf.load(conf_dir() / "env/cartpole.yaml").env, "env")


def shipped(name: str, **numbers: Any) -> Any:
    node = OmegaConf.merge(OmegaConf.load(conf_dir() / f"{name}.yaml"), numbers)
    return build(node, name.partition("/")[0])


def scripted(rewards: Array, lengths: Array) -> Rollout:
    """A rollout with these rewards `[T, n]` and lengths `[n]`; state, observation and action tell time and lane."""
    t, column = np.nonzero(np.arange(len(rewards))[:, None] < lengths)
    place, n = np.stack([t, column], 1).astype(float), rewards.shape[1]
    return Rollout(
        lanes=np.arange(n),
        obs=place,
        params=place,
        actions=place,
        states=place,
        t=t,
        column=column,
        rewards=rewards,
        lengths=np.asarray(lengths),
        terminated=np.ones(n, bool),
        truncated=np.zeros(n, bool),
        final_obs=np.zeros((n, 2)),
    )
