"""One object for each protocol of the core, with exactly the members that the protocol names and nothing inherited."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.optimizers.base import Arrays, Updated
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Acting, InputMap, Linearization, Policy
from trpo_cli.policies.distributions import Distribution, distribution_for
from trpo_cli.samplers.base import Memory, Sampled
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor, rollout
from trpo_cli.sims.base import ActionSpace, Simulator, Step, Task

GOAL = np.array([0.5, -0.25])  # the place that earns the most
PUSHES = np.array([[0.0, 0.0], [0.2, 0.0], [-0.2, 0.0], [0.0, 0.2], [0.0, -0.2]])


class Controls:
    """One of five pushes, or any push whose two numbers are the policy's divided by five."""

    def __init__(self, finite: bool) -> None:
        self._finite = finite

    @property
    def size(self) -> int:
        return 1 if self._finite else 2

    @property
    def factors(self) -> tuple[int, ...] | None:
        return (5,) if self._finite else None

    def controls(self, actions: NDArray[Any]) -> NDArray[Any]:
        return PUSHES[actions[..., 0].astype(int)] if self._finite else 0.2 * np.asarray(actions)


class Plane:
    """A place in the plane that is pushed about: a step pays the more the nearer the goal, and the far edge ends it."""

    def __init__(self, finite: bool) -> None:
        self._finite = finite

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return (2,)

    @property
    def action_space(self) -> ActionSpace:
        return Controls(self._finite)

    @property
    def n_state(self) -> int:
        return 2

    @property
    def max_lanes(self) -> int:
        return 5

    def reset(self, rngs: Sequence[np.random.Generator]) -> NDArray[np.float64]:
        return np.array([rng.uniform(-1, 1, 2) for rng in rngs]).reshape(-1, 2)

    def observe(self, states: NDArray[np.float64]) -> NDArray[np.float32]:
        return states.astype(np.float32)

    def step(self, states: NDArray[np.float64], actions: NDArray[Any]) -> Step:
        after = states + actions
        return Step(after, np.exp(-(((after - GOAL) ** 2).sum(1))), np.abs(after).max(1) > 2)


class LinearPolicy:
    """Distribution parameters that are linear in the observation; only a table of choices, no free parameters."""

    def __init__(self, n_inputs: int, dist: Distribution, input_map: InputMap) -> None:
        self._n_inputs, self._dist, self._input_map = n_inputs, dist, input_map

    @property
    def dist(self) -> Distribution:
        return self._dist

    @property
    def n_parameters(self) -> int:
        return (self._n_inputs + 1) * self._dist.n_params

    @property
    def chunk_size(self) -> int:
        return 7

    @property
    def input_scale(self) -> str:
        return "percentile"

    @property
    def input_map(self) -> InputMap:
        return self._input_map

    def with_input_map(self, input_map: InputMap) -> Policy:
        return LinearPolicy(self._n_inputs, self._dist, input_map)

    def initial(self, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(0.1 * rng.standard_normal(self.n_parameters))

    def tensor(self, obs: NDArray[np.generic]) -> Tensor:
        mapped = (np.asarray(obs, np.float64) - self._input_map.centre) / self._input_map.half_range
        return torch.from_numpy(np.column_stack([mapped, np.ones(len(mapped))]))

    def params(self, theta: Tensor, inputs: Tensor) -> Tensor:
        table = theta.view(*theta.shape[:-1], self._n_inputs + 1, self._dist.n_params)
        return inputs @ table if theta.dim() == 1 else torch.einsum("qi,qip->qp", inputs, table)

    def linearize(self, theta: Tensor, inputs: Tensor) -> Linearization:
        return Linearization(
            self.params(theta, inputs),
            jvp=lambda v: self.params(v, inputs),
            vjp=lambda u: (inputs.T @ u).ravel(),
        )

    def acting(self, theta: Tensor) -> Acting | None:
        return None


class LinearConfig:
    """What builds `LinearPolicy`."""

    def build(self, obs_shape: tuple[int, ...], actions: ActionSpace) -> Policy:
        return LinearPolicy(int(np.prod(obs_shape)), distribution_for(actions), InputMap())


class Net:
    """One hidden layer of four units; nobody has written its derivatives."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        self._n_inputs, self._n_outputs = n_inputs, n_outputs

    @property
    def n_parameters(self) -> int:
        return 4 * (self._n_inputs + 1 + self._n_outputs)

    def initial(self, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(0.5 * rng.standard_normal(self.n_parameters))

    def output(self, theta: Tensor, inputs: Tensor) -> Tensor:
        w_in, b, w_out = theta.split([4 * self._n_inputs, 4, 4 * self._n_outputs])
        hidden = torch.tanh(inputs @ w_in.view(self._n_inputs, 4) + b)
        return hidden @ w_out.view(4, self._n_outputs)


class FirstChoices:
    """Twelve episodes, of which the first decision alone is learnt from; its value is the episode's whole return."""

    @property
    def whole_paths(self) -> bool:
        return False

    @property
    def n_lanes(self) -> int | None:
        return 12

    def check(self, sim: Simulator, has_critic: bool) -> None:
        """Every simulator will do."""

    def __call__(
        self,
        task: Task,
        policy: Policy,
        theta: Tensor,
        draw: Draw,
        group: Group,
        memory: Memory = Memory(),
    ) -> Sampled:
        lanes = group.share(12)
        noise = [policy.dist.draw_noise(rng, (task.step_limit,)) for rng in draw.generators("policy_noise", lanes)]
        states = task.sim.reset(draw.generators("initial_state", lanes))
        roll = rollout(task.sim, PolicyActor(policy, theta), states, np.stack(noise, 1), lanes)
        first = roll.t == 0
        old, actions = (torch.from_numpy(x[first]) for x in (roll.params, roll.actions))
        returns = roll.rewards.sum(0)
        n, total, steps = group.sums(roll.n_lanes, returns.sum(), roll.n_steps)
        advantages = torch.from_numpy(returns - total / n)[:, None]
        log_q = policy.dist.log_prob(old, actions)[:, None]
        batch = Batch(roll.obs[first], old, actions[:, None], advantages, log_q, "importance", int(n))
        mean = total / n
        stats = {"collect/score": mean / task.step_limit, "collect/episode_length": steps / n}
        return Sampled(batch, stats | {"collect/sim_steps": int(steps)})


class Ascent:
    """A short step along the gradient of the mean of log π · A, however far that changes the policy."""

    @property
    def needs_whole_paths(self) -> str:
        return ""

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, draw: Draw, group: Group) -> Updated:
        total = torch.zeros_like(theta)
        for chunk in batch.chunks(policy.chunk_size):
            linear = policy.linearize(theta, policy.tensor(chunk.obs))
            params = linear.params.detach().requires_grad_()
            gain = (policy.dist.log_prob(params[:, None], chunk.actions) * chunk.advantages).sum()
            total += linear.vjp(torch.autograd.grad(gain, params)[0])
        return Updated(theta + 0.3 * group.sum(total) / batch.n_states, {})


class HillClimb:
    """Six candidates around the best one so far."""

    def start(self, theta: NDArray[np.float64]) -> Arrays:
        return {"best": np.array(theta), "value": np.array(-np.inf)}

    def ask(self, state: Arrays, rng: np.random.Generator) -> NDArray[np.float64]:
        return state["best"] + 0.3 * rng.standard_normal((6, len(state["best"])))

    def tell(
        self, state: Arrays, thetas: NDArray[np.float64], returns: NDArray[np.float64]
    ) -> tuple[Arrays, dict[str, float]]:
        if returns.max() <= state["value"]:
            return state, {}
        return {"best": thetas[returns.argmax()], "value": np.array(returns.max())}, {}

    def mean(self, state: Arrays) -> NDArray[np.float64]:
        return state["best"]
