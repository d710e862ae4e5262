"""Atari decisions per second: the sampler with its policy, against the emulator alone and against ALE's own vector
environment. The convolutional network's derivatives against autograd."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.measure import Row, in_turns, on_cores, pairs, seconds, seconds_of_all
from benchmarks.sampling import own_sampler
from benchmarks.tasks import SEED, Parts
from benchmarks.tasks import parts as task_parts
from benchmarks.updates import synthetic_batch
from trpo_cli.optimizers.fisher import analytic_metric, fisher_matrix
from trpo_cli.optimizers.surrogate import surrogate_at, surrogate_gradient
from trpo_cli.parallel.group import Group
from trpo_cli.policies.conv import ConvNetwork
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.episodes import run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.sims.base import Task

EMULATOR, VECTOR = 0.6, 1.0  # targets, as fractions of the emulator's rate and of the vector environment's rate


@dataclass(frozen=True)
class AtariSize:
    """How much to play."""

    lanes: int  # per worker
    step_limit: int  # decisions of an episode
    repeats: int


def parts(game: str) -> Parts:
    """The parts of ``trpo-train env=atari/<game>``."""
    return task_parts(f"env=atari/{game}")


def sampler_rate(game: str, size: AtariSize, n_workers: int) -> list[Row]:
    """Decisions/s of the whole sampler in ``n_workers`` pinned processes, and of the emulator in the same processes."""

    def task(group: Group) -> list[tuple[float, ...]]:
        p = parts(game)
        rate = own_sampler(p, size.lanes, size.step_limit, group)
        rate()  # makes the emulators
        return in_turns(size.repeats, rate, emulator(parts(game), size, group))

    rounds = on_cores(n_workers, task)
    name = f"sampler atari/{game}, {n_workers} processes, {size.lanes} lanes each"
    rows = [Row(name, "decisions/s", "act x 4 alone, every core", pairs(rounds, 1), at_least=EMULATOR)]
    for with_policy, words in ((True, "the same policy"), (False, "no policy")):
        vector = [_vector_rate(game, size, n_workers, with_policy) for _ in range(size.repeats)]
        peer = f"AtariVectorEnv, same preprocessing, {words}"
        against = list(zip([ours for ours, _ in rounds], vector, strict=True))
        rows.append(Row(name, "decisions/s", peer, against, at_least=VECTOR))
    return rows


def emulator(p: Parts, size: AtariSize, group: Group) -> Callable[[], float]:
    """Measure the limit: four frames per random action, in the same number of emulators, without observations."""
    states = p.sim.reset([np.random.default_rng(lane) for lane in range(size.lanes)])
    emulators = [p.sim._emulators.at(state) for state in states]
    codes = np.random.default_rng(group.rank).integers(18, size=(size.step_limit, size.lanes)).tolist()

    def play() -> None:
        for row in codes:
            for emulator, code in zip(emulators, row, strict=True):
                for _ in range(p.sim.action_repeat):
                    emulator.act(code)
                if emulator.game_over():
                    emulator.reset_game()

    def rate() -> float:
        return group.size * size.lanes * size.step_limit / seconds_of_all(play, group)

    return rate


def _vector_rate(game: str, size: AtariSize, n_threads: int, with_policy: bool) -> float:
    """Measure ALE's own environments in threads, with the same picture size and without its extras.

    with_policy: the run's network chooses the actions, on the same number of threads; otherwise they are random
    """
    envs = AtariVectorEnv(
        game,
        size.lanes * n_threads,
        num_threads=n_threads,
        full_action_space=True,
        img_height=52,
        img_width=40,
        maxpool=False,
        noop_max=0,
        reward_clipping=False,
        use_fire_reset=False,
    )
    p, lanes = parts(game), np.arange(envs.num_envs)
    act, rng = PolicyActor(p.policy, p.theta), np.random.default_rng(0)
    noise = p.policy.dist.draw_noise(rng, (size.step_limit, envs.num_envs))
    actions = rng.integers(18, size=(size.step_limit, envs.num_envs))

    def play(obs: NDArray[np.uint8]) -> None:
        for t in range(size.step_limit):
            chosen = p.sim.codes(act(obs, lanes, noise[t])[1]) if with_policy else actions[t]
            obs = envs.step(chosen)[0]

    n_before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        first, _ = envs.reset(seed=0)
        return envs.num_envs * size.step_limit / seconds(partial(play, first))
    finally:
        torch.set_num_threads(n_before)
        envs.close()


class PlainNetwork(nn.Module):
    """The policy as one would write it in torch."""

    def __init__(self, policy: NetworkPolicy, theta: Tensor) -> None:
        super().__init__()
        assert isinstance(policy.network, ConvNetwork)
        self.network = policy.network
        pieces = theta.split(self.network._lengths)
        self.pieces = nn.ParameterList(
            nn.Parameter(piece.view(shape).clone()) for piece, shape in zip(pieces, self.network._shapes, strict=True)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = (pixels.float() - 128) / 128
        for i, (w, b) in enumerate(zip(self.pieces[::2], self.pieces[1::2], strict=True)):
            x = nn.functional.conv2d(x, w, b, self.network.stride) if w.dim() == 4 else x.flatten(1) @ w + b
            x = x if 2 * i + 2 == len(self.pieces) else torch.tanh(x)
        return x


def derivatives(n_states: int, repeats: int) -> list[Row]:
    """Measure Fisher-vector product and surrogate gradient on one core, and one plain autograd gradient."""

    def task(group: Group) -> list[tuple[float, ...]]:
        p, rng = parts("pong"), np.random.default_rng(0)
        roll = run_episodes(Task(p.sim, n_states // 8), PolicyActor(p.policy, p.theta), Draw(SEED), range(8))
        obs = roll.obs[rng.integers(len(roll.obs), size=n_states)]
        batch = synthetic_batch(p.policy, p.theta, obs)
        at = surrogate_at(p.policy, p.theta, batch, group)
        product = fisher_matrix(at, 1.0, Draw(SEED), analytic_metric).product
        plain, direction = PlainNetwork(p.policy, p.theta), torch.randn(p.policy.n_parameters)

        def autograd() -> None:
            for chunk in batch.chunks(256):
                logits = plain(p.policy.tensor(chunk.obs))
                ratio = torch.exp(p.policy.dist.log_prob(logits, chunk.actions[:, 0]) - chunk.log_q[:, 0])
                (ratio * chunk.advantages[:, 0]).sum().backward()

        return in_turns(
            repeats,
            lambda: seconds(lambda: product(direction)),
            lambda: seconds(lambda: surrogate_gradient(p.policy, p.theta, batch, group)),
            lambda: seconds(autograd),
        )

    rounds = on_cores(1, task)
    states, peer = f"{n_states / 1000:g} K Atari states", "one plain autograd gradient"
    return [
        Row(f"Fisher-vector product, convolutions, {states}", "s", peer, pairs(rounds, 2)),
        Row(f"surrogate gradient, convolutions, {states}", "s", peer, pairs(rounds, 2, ours=1)),
    ]
