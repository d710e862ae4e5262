"""A package of Gymnasium environments as a third party would write it: ``env.id=gym_envs:Walk-v0`` imports it.

The walk goes to the right or to the left on a line, and ends at the right end. The names of the other environments say
what is special about them.
"""

import threading
from random import random
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

SMALL = spaces.Box(-1.0, 1.0, (1,), np.float32)


def filled(space, place):
    """An observation of a space that says at which place the walk is."""
    if isinstance(space, spaces.Discrete):
        return place + space.start
    if isinstance(space, spaces.Dict):
        return {key: filled(part, place) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(filled(part, place) for part in space)
    keeps_kind = isinstance(space, spaces.MultiDiscrete) or len(space.shape) == 3
    return np.full(space.shape, place, space.dtype if keeps_kind else np.float64)


class Walk(gymnasium.Env):
    """Places 0 to ``length``. Each step has a reward of -1. The wind, drawn from the seed, may undo a step."""

    def __init__(self, length=4, wind=0.2, observations=None, actions=None):
        self.length, self.wind, self.place = length, wind, 0
        self.observation_space = observations or spaces.Box(0.0, length, (2,), np.float64)
        self.action_space = actions or spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(self.length))
        return self.seen(), {}

    def seen(self):
        return filled(self.observation_space, self.place)

    def step(self, action):
        assert self.action_space.contains(action), action
        box = isinstance(self.action_space, spaces.Box)
        right = np.ravel(action)[0] > ((self.action_space.low + self.action_space.high).mean() / 2 if box else 0.5)
        if self.np_random.random() >= self.wind:
            self.place = max(self.place + (1 if right else -1), 0)
        return self.seen(), -1.0, self.place >= self.length, False, {}


class Goal(Walk):
    """Says at its end, and at every step if asked to, whether it is at the right end. It may give up by itself."""

    def __init__(self, length=4, wind=0.2, always=False, patience=100):
        super().__init__(length, wind)
        self.always, self.patience = always, patience

    def reset(self, *, seed=None, options=None):
        self.left = self.patience
        return super().reset(seed=seed)

    def step(self, action):
        obs, reward, terminated, _, _ = super().step(action)
        self.left -= 1
        gives_up = self.left == 0 and not terminated
        told = {"is_success": np.float32(terminated)} if self.always or terminated or gives_up else {}
        return obs, reward, terminated, gives_up, told


class Painted(Walk):
    """Draws a bar that is as bright as the place is far to the right, if it is asked to."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, render_mode=None, seen=None):
        super().__init__(observations=spaces.Box(0, 255, (10, 20, 3), np.uint8) if seen else None)
        self.render_mode, self.looks = render_mode, seen

    def seen(self):
        return self.render() if self.looks else super().seen()

    def render(self):
        assert self.render_mode == "rgb_array", "it draws in rgb_array only"
        return np.full((10, 20, 3), 50 * self.place, np.uint8)


class Flat(Painted):
    """Draws lists."""

    def render(self):
        return [[0]]


class Locked(Walk):
    """Has an attribute that cannot be copied."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class Shared(Walk):
    """Pretends to be copied."""

    def __deepcopy__(self, memo):
        return self


class Unseeded(Walk):
    """Draws its rewards from a generator that the seed does not reach."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, -random(), *rest


class Weary(Walk):
    """Truncates its episodes by itself after three steps; it says so even if the third step is terminal."""

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return super().reset(seed=seed)

    def step(self, action):
        self.steps += 1
        obs, reward, ended, _, info = super().step(action)
        return obs, reward, ended, self.steps >= 3, info


class Remembering(Walk):
    """Starts elsewhere in its first episode than in later ones."""

    resets = 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        super().reset(seed=seed)
        self.place = self.length - 1 if self.resets == 1 else 0
        return self.seen(), {}


class Broken(Walk):
    """Raises at its first step."""

    def step(self, action):
        raise OSError("the road is closed")


def register(name, entry_point=Walk, limit=30, **kwargs):
    gymnasium.register(f"{name}-v0", entry_point, max_episode_steps=limit, kwargs=kwargs)


register("Walk")
register("EndlessWalk", limit=None)
for kind in (Painted, Flat, Locked, Shared, Unseeded, Weary, Remembering, Broken):
    register(f"{kind.__name__}Walk", kind)
register("GoalWalk", Goal, patience=3)
register("NumberedWalk", observations=spaces.Discrete(5, start=2))
register("TallWalk", observations=spaces.Box(0, 255, (3, 4), np.uint8))
register("PushedWalk", actions=spaces.Box(-2.0, 4.0, (2, 1), np.float64))
register("SteppedWalk", actions=spaces.Box(0, 1, (1,), np.int64))
register("ShiftedWalk", actions=spaces.Discrete(2, start=5))
register("FactoredWalk", actions=spaces.MultiDiscrete([2, 3], start=[0, 4]))
NAMED = spaces.Dict({"place": SMALL, "pair": spaces.Tuple((spaces.Discrete(9), spaces.MultiDiscrete([9, 9])))})
register("NamedWalk", observations=NAMED, actions=spaces.MultiBinary([1, 2]))
register("PicturedWalk", observations=spaces.Box(0, 255, (16, 12, 3), np.uint8), actions=spaces.Box(-1.0, 1.0, (2,)))
register("ToldWalk", observations=spaces.Dict({"place": SMALL, "words": spaces.Tuple((spaces.Text(4),))}))
register("SpokenWalk", actions=spaces.Text(4))
register("EmptyWalk", observations=spaces.Box(0.0, 1.0, (0,)))
