"""Environment steps per second: the sampler with its policy, against the physics alone and against Gymnasium."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
from mujoco.rollout import Rollout

from benchmarks.measure import Row, in_turns, on_cores, pairs, seconds, seconds_of_all
from benchmarks.tasks import SEED, Parts, parts
from trpo_cli.parallel.group import Group
from trpo_cli.samplers.episodes import run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.sims.base import Task

ALL_CORES, ONE_CORE = 0.9, 0.85  # targets, as fractions of the open-loop rate
OPEN_LOOP_STEPS = 20  # control steps of the physics alone, from each of the visited states


@dataclass(frozen=True)
class SamplerSize:
    """How much to simulate."""

    surviving: bool  # no episode ends before its limit
    lanes: int  # per worker
    repeats: int
    step_limit: int  # environment steps of an episode
    open_loop_lanes: int  # visited states from which the physics alone starts
    gym_envs: int  # in each of Gymnasium's vector environments
    gym_steps: int  # of each environment


def sampler_rate(env: str, size: SamplerSize, n_workers: int) -> list[Row]:
    """Steps/s of the whole sampler in ``n_workers`` pinned processes, and the open-loop limit in the same processes."""

    def task(group: Group) -> tuple[list[tuple[float, ...]], float]:
        p = parts(f"env={env}", surviving=size.surviving)
        rounds = in_turns(size.repeats, own_sampler(p, size.lanes, size.step_limit, group), _open_loop(p, size, group))
        roll = run_episodes(Task(p.sim, size.step_limit), PolicyActor(p.policy, p.theta), Draw(SEED), range(size.lanes))
        return rounds, roll.n_steps / len(roll.rewards)

    rounds, alive = on_cores(n_workers, task)
    where = "one process" if n_workers == 1 else f"{n_workers} processes"
    who = "surviving" if size.surviving else "fresh policy"
    name = f"sampler {env}, {who}, {where}, {size.lanes} lanes each ({alive:.0f} alive on average)"
    target = ONE_CORE if n_workers == 1 else ALL_CORES
    return [Row(name, "steps/s", "open-loop mujoco.rollout", pairs(rounds, 1), at_least=target)]


def against_gymnasium(env: str, gym_id: str, size: SamplerSize, n_workers: int) -> list[Row]:
    """Steps/s of the whole sampler, and of Gymnasium's vector environments, which run no policy."""

    def task(group: Group) -> list[tuple[float, ...]]:
        p = parts(f"env={env}", surviving=size.surviving)
        return in_turns(
            size.repeats, own_sampler(p, size.lanes, size.step_limit, group), _sync_vector(gym_id, size, group)
        )

    sync = on_cores(n_workers, task)
    ours = [values[0] for values in sync]
    asynchronous = [_async_rate(gym_id, size, 4 * n_workers) for _ in range(size.repeats)]
    return [
        Row(f"sampler {env}", "steps/s", f"gymnasium SyncVectorEnv, {n_workers} processes, no policy", pairs(sync, 1)),
        Row(
            f"sampler {env}",
            "steps/s",
            "gymnasium AsyncVectorEnv, no policy",
            list(zip(ours, asynchronous, strict=True)),
        ),
    ]


def own_sampler(p: Parts, lanes: int, step_limit: int, group: Group) -> Callable[[], float]:
    """Return a function that measures steps/s of one batch, with ``lanes`` per worker. Each call is a new iteration."""
    n_paths = lanes * group.size
    sampler = replace(p.sampler, n_paths=n_paths, steps_per_iteration=None, streams=None)
    iteration, steps = 0, 0.0

    def collect() -> None:
        nonlocal iteration, steps
        iteration += 1
        _, stats, _ = sampler(Task(p.sim, step_limit), p.policy, p.theta, Draw(SEED, iteration), group)
        steps = stats["collect/sim_steps"]

    def rate() -> float:
        elapsed = seconds_of_all(collect, group)
        return steps / elapsed

    return rate


def _open_loop(p: Parts, size: SamplerSize, group: Group) -> Callable[[], float]:
    """Measure the limit: MuJoCo alone, in one call, from states and with controls of the policy's own rollout."""
    path = Path(gymnasium.__file__).parent / "envs/mujoco/assets" / p.sim.model
    model = mujoco.MjModel.from_xml_path(str(path))
    task, actor = Task(p.sim, size.step_limit), PolicyActor(p.policy, p.theta)
    roll = run_episodes(task, actor, Draw(SEED), range(size.lanes), keep="states")
    assert roll.states is not None
    rng = np.random.default_rng(group.rank)
    chosen = rng.integers(len(roll.states), size=size.open_loop_lanes)
    taken = roll.actions[rng.integers(len(roll.actions), size=(size.open_loop_lanes, OPEN_LOOP_STEPS))]
    space = p.sim.action_space
    controls = np.clip(space.controls(taken), space.low, space.high).repeat(p.sim.frame_skip, axis=1)
    engine, data, states = Rollout(nthread=0), mujoco.MjData(model), np.asarray(roll.states[chosen], np.float64)

    def rate() -> float:
        elapsed = seconds_of_all(lambda: engine.rollout(model, data, states, controls), group)
        return group.size * size.open_loop_lanes * OPEN_LOOP_STEPS / elapsed

    return rate


def _sync_vector(gym_id: str, size: SamplerSize, group: Group) -> Callable[[], float]:
    envs = gymnasium.make_vec(gym_id, size.gym_envs, vectorization_mode="sync")
    envs.reset(seed=group.rank)
    actions = [envs.action_space.sample() for _ in range(size.gym_steps)]

    def rate() -> float:
        elapsed = seconds_of_all(lambda: [envs.step(a) for a in actions], group)
        return group.size * size.gym_envs * size.gym_steps / elapsed

    return rate


def _async_rate(gym_id: str, size: SamplerSize, n_envs: int) -> float:
    """Steps/s with one environment per process and several processes per core, which the scheduler places."""
    envs = gymnasium.make_vec(gym_id, n_envs, vectorization_mode="async")
    try:
        envs.reset(seed=0)
        actions = [envs.action_space.sample() for _ in range(size.gym_steps)]
        return n_envs * size.gym_steps / seconds(lambda: [envs.step(a) for a in actions])
    finally:
        envs.close()
