"""The environments of one process: made when they are needed, used again, and all of them closed at its end."""

import atexit
import copy
import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gymnasium import Env
from gymnasium.envs.registration import EnvSpec, make, spec
from gymnasium.utils import EzPickle

from trpo_cli.errors import ConfigError, Interrupted
from trpo_cli.parallel.children import CLOSE_S, time_limit
from trpo_cli.parallel.settings import Border
from trpo_cli.sims.gymnasium_guard import Watch, refusing
from trpo_cli.sims.gymnasium_names import way_to

MANY = 1000  # calls, after which an environment is not expected any more to set signal handlers


def specification(env_id: str) -> EnvSpec:
    """What is registered as ``env_id``; ConfigError if nothing is."""
    module, _, name = env_id.rpartition(":")
    if module:
        with refusing(
            f"env.id={env_id} cannot be imported", "; install the package or put its folder on PYTHONPATH", place=False
        ):
            importlib.import_module(module)
    try:
        return spec(name)
    except Exception as error:
        raise ConfigError(f"env.id={env_id} is not registered; {way_to(env_id)}") from error


class Environments:
    """What ``gymnasium.make(id, **kwargs)`` makes, without its time limit: in use, free, or closed."""

    def __init__(self, env_id: str, kwargs: dict[str, Any] | None, reusable: bool) -> None:
        """reusable: an environment that has been used is, after a reset, like a new one."""
        self._spec, self._kwargs, self._reusable = specification(env_id), kwargs or {}, reusable
        self._open: list[Env] = []
        self._free: list[Env] = []
        self.border, self.watch = Border(), Watch(f"env.id={env_id}")
        atexit.register(self.close)

    def take(self) -> Env:
        """An environment to be reset: one that nobody uses any more, or else a new one."""
        if self._free and self._reusable:
            return self._free.pop()
        for env in self._free:
            self.retire(env)
        self._free.clear()
        return self.new()

    def new(self) -> Env:
        """An environment that has not been used."""
        with self.called("make()"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example that there is a newer version
            env = make(self._spec, max_episode_steps=-1, disable_env_checker=True, **self._kwargs)
        self._open.append(env)
        return env

    def give_back(self, env: Env) -> None:
        """Take back an environment that nobody uses any more."""
        if self.owns(env):
            self._free.append(env)

    def owns(self, env: Env) -> bool:
        """True if the environment was made here and is open; a copy of one was not made here."""
        return any(env is one for one in self._open)

    def retire(self, env: Env) -> None:
        """Close an environment. What goes wrong in its close() has no consequence: nobody needs it any more."""
        self._open = [one for one in self._open if one is not env]
        try:
            with time_limit(CLOSE_S), self.called("close()"):
                env.close()
        except Interrupted:
            raise
        except BaseException:
            return

    def close(self) -> None:
        """Close every environment that is open."""
        for env in list(self._open):
            self.retire(env)
        self._free.clear()

    @contextmanager
    def called(self, call: str) -> Iterator[None]:
        """Around calls of the environment: its own settings hold, and a call that does not come back is spoken of."""
        outer, self.watch.inside = self.watch.inside, call
        self.watch.calls += 1
        try:
            with self.border.crossed(handlers=self.watch.calls < MANY or call == "make()"):
                yield
        finally:
            self.watch.inside = outer


def copy_of(env: Env) -> Env:
    """A copy of the environment that continues as ``env`` would."""
    base = env.unwrapped
    memo: dict[int, Any] = {}  # of copy.deepcopy: id of an object -> its copy
    if isinstance(base, EzPickle) and not hasattr(base, "__deepcopy__"):
        # copy.deepcopy would call the constructor of an EzPickle again (Gymnasium's MuJoCo environments are of this
        # kind): the result would be a new environment, and not a copy of this one in its present state. So make an
        # empty object of the same class and copy every attribute into it. With the empty object in ``memo``, deepcopy
        # uses it wherever a wrapper or an attribute refers to the original.
        memo[id(base)] = twin = object.__new__(type(base))
        vars(twin).update(copy.deepcopy(vars(base), memo))
    return copy.deepcopy(env, memo)
