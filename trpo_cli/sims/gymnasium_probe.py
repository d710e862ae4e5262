"""What is tried with a Gymnasium environment before a run starts, in a short-lived process of its own.

So nothing of the environment (threads, locks, handlers, settings, its working directory) is in the command's process
when the workers are forked from it. One environment is open at a time, and a copy of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from gymnasium import Env, Space

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.parallel.children import LostChildError, in_child
from trpo_cli.sims.gymnasium_guard import fault_of_reset, fault_of_step, refusing
from trpo_cli.sims.gymnasium_pool import Environments, copy_of
from trpo_cli.sims.gymnasium_spaces import arbitrary_actions, exact, require_usable

TRIED_STEPS = 20  # for which an environment is always tried
MORE_STEPS = 200  # for which a used environment and a new one are compared, if this takes about a second
RESETS = 5  # of the used environment, before it is compared

Kwargs = dict[str, Any] | None
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Findings:
    """What is known of an environment before the run starts."""

    observations: Space
    actions: Space
    step_limit: int | None  # with which it was registered
    repeats: bool  # it gives the same answers after two resets with the same seed
    reusable: bool  # after a reset, one that has been used gives the same answers as a new one; or nothing repeats
    apart: bool  # it changes settings of its process


def findings(env_id: str, kwargs: Kwargs) -> Findings:
    """Make, reset and step the environment in a child process; ConfigError if it cannot be used."""
    return _tried(env_id, lambda: _find(env_id, kwargs))


def require_copies(env_id: str, kwargs: Kwargs, actions: Space) -> None:
    """Raise ConfigError unless a copy of the environment continues as the environment itself does."""
    _tried(env_id, lambda: _compare_copy(env_id, kwargs, actions))


def _tried(env_id: str, work: Callable[[], Answer]) -> Answer:
    try:
        return in_child(work)
    except LostChildError as error:
        raise ConfigError(f"env.id={env_id} cannot be run (its process {error})") from error


def _find(env_id: str, kwargs: Kwargs) -> Findings:
    here = Environments(env_id, kwargs, reusable=False)
    step_limit = here._spec.max_episode_steps
    with refusing(f"env.id={env_id} cannot be run"):
        env = here.new()
        observations, actions = env.observation_space, env.action_space
    require_usable(env_id, observations, actions)
    with refusing(f"env.id={env_id} cannot be run"):
        start = perf_counter()
        _answers(here, env, arbitrary_actions(actions, TRIED_STEPS), seed=0)
        n = int(np.clip(TRIED_STEPS / (perf_counter() - start), TRIED_STEPS, MORE_STEPS))
        tried = arbitrary_actions(actions, n)
        for k in range(RESETS):
            _answers(here, env, tried[:1], seed=k + 2)
        _answers(here, env, tried, seed=1)
        used = _answers(here, env, tried, seed=0)
        here.retire(env)
        new = _answers_of_new(here, tried)
        repeats = used == new or new == _answers_of_new(here, tried)
    return Findings(observations, actions, step_limit, repeats, used == new or not repeats, here.border.apart)


def _answers_of_new(here: Environments, actions: Sequence[Any]) -> list[Any]:
    env = here.new()
    answers = _answers(here, env, actions, seed=0)
    here.retire(env)
    return answers


def _compare_copy(env_id: str, kwargs: Kwargs, space: Space) -> None:
    needs = "sampler=vine needs an environment that can be copied; use sampler=single"
    actions = arbitrary_actions(space, 2 * TRIED_STEPS)
    before, after = actions[:TRIED_STEPS], actions[TRIED_STEPS:]
    with refusing(f"env.id={env_id} cannot be copied", f"; {needs}"):
        here = Environments(env_id, kwargs, reusable=False)
        env = here.new()
        _answers(here, env, before, seed=0)
        copied = copy_of(env)
        # The copy first: the two may share something.
        continues = _answers(here, copied, after) == _answers(here, env, after)
    if not continues:
        raise ConfigError(f"env.id={env_id}: a copy of it does not continue as the original does; {needs}")


def _answers(here: Environments, env: Env, actions: Sequence[Any], seed: int | None = None) -> list[Any]:
    """What the environment returns for each of ``actions``; with a ``seed``, it is reset first.

    Raises RunError if what it returns cannot be used.
    """
    space = env.observation_space
    answers: list[Any] = []

    def reset(seed: int) -> None:
        with here.called("reset()"):
            answer = env.reset(seed=seed)
        _require_no(fault_of_reset(answer, space))
        answers.append(exact(space, answer[0]))

    if seed is not None:
        reset(seed)
    for t, action in enumerate(actions):
        with here.called("step()"):
            answer = env.step(action)
        if fault := fault_of_step(answer, space):
            raise RunError(f"{fault} (step {t + 1})")
        obs, reward, terminated, truncated, _ = answer
        answers.append((exact(space, obs), repr(float(reward)), bool(terminated), bool(truncated)))
        if terminated or truncated:
            reset(t)
    return answers


def _require_no(fault: str) -> None:
    if fault:
        raise RunError(fault)
