"""Which episodes and states a batch has does not depend on the number of workers, nor on what is known before."""

from functools import cache
from math import nan
from typing import Any

import numpy as np
import pytest
from random_batches import in_workers
from toy_policies import ECHO_ACTOR, ECHO_POLICY, ECHO_THETA, WORLD
from toy_sims import Array, Echo, single, vine

from trpo_cli.parallel.group import Group
from trpo_cli.samplers.base import Memory
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.episodes import run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.sims.base import Task

TASK, DRAW = Task(Echo(12), 20), Draw(3, 2)
HINTS = (nan, 6.0, 9.0, 30.0)  # the mean episode has 6.5 steps: one wave and several, too many episodes and too few
SIZES = (1, 2, 3)
VINE = vine(trunk_steps=60, n_states=10, n_actions=3)
SINGLE = single(steps_per_iteration=137, baseline="none", standardise=False)
everywhere = pytest.mark.parametrize("size", SIZES)
hinted = pytest.mark.parametrize("hint", HINTS)


def columns(batch: Batch, group: Group) -> tuple[Array, Array, Array]:
    """Observations, actions and advantages of all workers in rank order."""
    own = (batch.obs, batch.actions.numpy()[..., 0], batch.advantages.numpy())
    return tuple(group.concatenate(x) for x in own)  # type: ignore[return-value]


def everything(group: Group) -> dict[float, Any]:
    """What a vine and single paths draw for every hint."""
    found: dict[float, Any] = {}
    for hint in HINTS:
        (branches, vine_stats, _), (paths, stats, _) = (
            sampler(TASK, ECHO_POLICY, ECHO_THETA, DRAW, group, Memory(hint)) for sampler in (VINE, SINGLE)
        )
        roll, _ = SINGLE.paths(TASK, ECHO_ACTOR, DRAW, group, hint)
        found[str(hint)] = {
            "vine": columns(branches, group),
            "trunks": vine_stats["collect/n_episodes"],
            "single": columns(paths, group),
            "episodes": stats["collect/n_episodes"],
            "lanes": group.concatenate(roll.lanes),
            "returns": group.concatenate(roll.rewards.sum(0)),
        }
    return found


@cache
def results(size: int) -> dict[str, Any]:
    return everything(WORLD) if size == 1 else in_workers(size, everything)[0]


def by_row(columns: tuple[Array, Array, Array]) -> Array:
    """The batch as one table, its rows in an order that the values decide."""
    table = np.column_stack(columns)
    return table[np.lexsort(table.round(9).T)]


@everywhere
@hinted
def test_the_rollout_set_its_order_and_its_branches_are_the_same(size: int, hint: float):
    found, expected = results(size)[str(hint)], results(1)["nan"]
    assert found["trunks"] == expected["trunks"]
    obs, actions, advantages = found["vine"]
    np.testing.assert_array_equal(obs, expected["vine"][0])  # the same states in the same order
    np.testing.assert_array_equal(actions, expected["vine"][1])
    np.testing.assert_allclose(advantages, expected["vine"][2], rtol=1e-10, atol=1e-12)
    assert len(np.unique(obs, axis=0)) == 10


@everywhere
@hinted
def test_the_episodes_of_single_paths_are_the_same(size: int, hint: float):
    found, expected = results(size)[str(hint)], results(1)["nan"]
    assert found["episodes"] == expected["episodes"]
    order = np.argsort(found["lanes"])
    assert found["lanes"][order].tolist() == list(range(found["episodes"]))  # the first ones, each once
    np.testing.assert_allclose(by_row(found["single"]), by_row(expected["single"]), rtol=1e-12)
    # Under its number every worker's episode is the one that this number names.
    named = run_episodes(TASK, ECHO_ACTOR, DRAW, range(found["episodes"]))
    np.testing.assert_allclose(found["returns"][order], named.rewards.sum(0), rtol=1e-12)


@everywhere
def test_the_episodes_came_in_more_than_one_wave(size: int):
    """Or the tests above would say nothing: only after two waves does a worker hold lanes that are not neighbours."""
    lanes = results(size)["30.0"]["lanes"]
    assert size == 1 or (np.diff(lanes) < 0).any()


def test_the_rollout_set_is_drawn_from_visits_numbered_lane_by_lane():
    trunks = run_episodes(TASK, ECHO_ACTOR, DRAW, range(9), keep="states")
    states, mine = VINE.rollout_set(trunks, DRAW, WORLD, 3)
    assert trunks.states is not None and mine == range(10)
    visits = np.concatenate([trunks.states[trunks.column == lane] for lane in range(9)])
    chosen = np.sort(DRAW.generator("rollout_set").choice(len(visits), 10, replace=False, shuffle=False))
    np.testing.assert_array_equal(states, visits[chosen])
