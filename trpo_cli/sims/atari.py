"""Atari 2600 games from pixels, as a batch of emulator states (Section 8.2, Table 3, Appendix D).

A state is a value: a snapshot of the emulator, what was played since, and the last observations, single frames that
consecutive states share. Each process keeps emulators that stand at the states they came to; stepping a state whose
emulator has gone on restores it in another, and gives the same result.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
from ale_py import ALEInterface, ALEState, LoggerMode
from ale_py import roms as ale_roms
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.sims.atari_screen import Frame, Screen
from trpo_cli.sims.base import Discrete, Step

MAX_LANES = 128  # enough for the policy to work at full speed
SEED = 1  # of the console's power-on memory, the same in every episode; -1 would be the time of day
NO_OP = 0  # ALE's code
# ALE's code of each joystick position: [horizontal: centre, right, left][vertical: centre, up, down][fire: no, yes].
JOYSTICK = np.array(
    [
        [[0, 1], [2, 10], [5, 13]],
        [[3, 11], [6, 14], [8, 16]],
        [[4, 12], [7, 15], [9, 17]],
    ]
)
N_JOYSTICK = 18  # positions of the joystick with its button
RAM_SIZE = 128  # bytes
ACTIONS = ("factored", "joint", "minimal")
POOLS = ("last", "max")
STACKS = ("observations", "frames")
SNAPSHOT_EVERY = 8  # decisions: a clone of the emulator takes 25 µs, one decision played again 210
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # SplitMix64
_GOLDEN, _MASK = 0x9E3779B97F4A7C15, 2**64 - 1


@dataclass(eq=False, slots=True)
class Console:
    """The state of one lane. A snapshot takes a tenth of a decision's time, so most states keep an earlier one."""

    snapshot: ALEState
    played: tuple[int, ...]  # ALE's codes of the actions in the frames since the snapshot
    frames: tuple[Frame, ...]  # the observations behind one input of the policy, oldest first
    executed: int  # ALE's code of the action in the last frame, which a sticky one repeats
    n_frames: int  # since the start of the episode
    key: int  # names this episode's stream of sticky actions

    def take_snapshot(self, emulator: ALEInterface) -> None:
        """Keep a snapshot of the state itself, taken from an emulator that has come to it."""
        self.snapshot, self.played = emulator.cloneState(), ()


def sticky(key: int, frame: int) -> float:
    """Frame ``frame`` of the stream of uniform numbers in [0, 1) that ``key`` names (SplitMix64)."""
    z = (key + (frame + 1) * _GOLDEN) & _MASK
    for shift, factor in _MIX:
        z = ((z ^ (z >> shift)) * factor) & _MASK
    return float((z ^ (z >> 31)) >> 11) / 2.0**53


@dataclass(frozen=True)
class Atari:
    """One game under one protocol; numbers and sources stand in ``conf/env/atari.yaml``.

    Paper: frame skip, start, length of an episode and whether a lost life ends it are not stated; the authors' code's.
    The last four observations, one a decision, are the channels; the authors' code has every frame of one decision.
    """

    game: str  # ALE's name of the ROM, as beam_rider
    action_repeat: int  # frames that one decision lasts
    sticky_actions: float  # probability that a frame repeats the action of the frame before it
    start_no_ops: int  # frames of no-op that every episode starts with
    random_no_ops: int  # at most so many more, a uniform number drawn for each episode
    frame_pool: str  # last: an observation is a decision's last frame; max: the brighter of its last two
    screen_lines: tuple[int, int]  # first of the 210 lines that is seen, and the first that no longer is
    size: tuple[int, int]  # rows and columns of an observation, by area averages of the gray screen
    stack: int  # observations that the policy sees at once, the last ones
    stack_of: str  # observations: one a decision; frames: every frame, the authors' reading
    actions: str  # factored: stick right-left, up-down, fire; joint: its 18 positions; minimal: those the game reads
    life_loss_ends: bool  # an episode ends with the first life lost, not with the game
    clip_rewards: float  # rewards are clipped to +- this; inf: the raw score

    def __post_init__(self) -> None:
        _require(self.action_repeat >= 1, "action_repeat", self.action_repeat, "at least 1")
        _require(0 <= self.sticky_actions < 1, "sticky_actions", self.sticky_actions, "in [0, 1)")
        for name in ("start_no_ops", "random_no_ops"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        words = {"frame_pool": POOLS, "stack_of": STACKS, "actions": ACTIONS}
        for name, choices in words.items():
            _require(getattr(self, name) in choices, name, getattr(self, name), " or ".join(choices))
        self._screen  # noqa: B018 - which checks its own fields
        _require(self.stack >= 1, "stack", self.stack, "at least 1")
        frames = self.stack_of == "frames"
        _require(
            not frames or self.stack <= self.action_repeat,
            "stack",
            self.stack,
            f"at most env.action_repeat={self.action_repeat} where env.stack_of=frames",
        )
        _require(
            not frames or self.frame_pool == "last", "frame_pool", self.frame_pool, "last where env.stack_of=frames"
        )
        _require(self.clip_rewards > 0, "clip_rewards", self.clip_rewards, "> 0 (.inf for the raw score)")
        if self.game not in (known := ale_roms.get_all_rom_ids()):
            raise ConfigError(f"env.game={self.game} does not exist; ale-py has {', '.join(sorted(known))}")

    @cached_property
    def _screen(self) -> Screen:
        return Screen(self.screen_lines, self.size)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""
        return (self.stack, *self.size)

    @property
    def max_lanes(self) -> int:
        """Every lane has an emulator to itself."""
        return MAX_LANES

    @property
    def n_state(self) -> int:
        """Bytes of the console's memory."""
        return RAM_SIZE

    @cached_property
    def action_space(self) -> Discrete:
        """The factors of ``actions``."""
        if self.actions == "factored":
            return Discrete(JOYSTICK.shape)
        return Discrete((N_JOYSTICK if self.actions == "joint" else len(self._minimal),))

    @cached_property
    def _minimal(self) -> NDArray[np.int64]:
        """ALE's codes of the actions that this game reads."""
        return np.array([a.value for a in self._emulators.any().getMinimalActionSet()])

    @cached_property
    def _emulators(self) -> "Emulators":
        return Emulators(self.game)

    def codes(self, actions: NDArray[Any]) -> NDArray[np.int64]:
        """ALE's code ``[n]`` of each row of option indices ``[n, F]``."""
        actions = np.asarray(actions, np.int64)
        if self.actions == "factored":
            return JOYSTICK[actions[:, 0], actions[:, 1], actions[:, 2]]
        return actions[:, 0] if self.actions == "joint" else self._minimal[actions[:, 0]]

    @cached_property
    def _start(self) -> Console:
        """The deterministic start: the console's reset, then the no-ops, the first observation in every channel."""
        emulator = self._emulators.any()
        emulator.reset_game()
        return self._opening(emulator, self.start_no_ops, key=0)

    def reset(self, rngs: Sequence[np.random.Generator]) -> NDArray[np.object_]:
        """The start of an episode for each lane ``[n]``, after a random number of no-ops where asked for."""
        states = np.empty(len(rngs), object)
        for i, rng in enumerate(rngs):
            states[i] = self._started(rng)
        return states

    def _started(self, rng: np.random.Generator) -> Console:
        key = int(rng.integers(2**63)) if self.sticky_actions else 0
        start = self._start
        n_frames = int(rng.integers(self.random_no_ops + 1)) if self.random_no_ops else 0
        if not n_frames:
            return replace(start, key=key)
        return self._opening(self._emulators.at(start), n_frames, key)

    def _opening(self, emulator: ALEInterface, n_no_ops: int, key: int) -> Console:
        """The state after ``n_no_ops`` frames of nothing, its first observation in every channel."""
        for _ in range(n_no_ops):
            emulator.act(NO_OP)
        first = self._screen.frame(emulator.getScreenGrayscale())
        return self._emulators.put(emulator, Console(emulator.cloneState(), (), (first,) * self.stack, NO_OP, 0, key))

    def observe(self, states: NDArray[np.object_]) -> NDArray[np.object_]:
        """The frames ``[n, stack]`` of each state, every one an array ``[rows, columns]`` that other states share."""
        obs = np.empty((len(states), self.stack), object)
        for i, state in enumerate(states):
            for j, frame in enumerate(state.frames):
                obs[i, j] = frame
        return obs

    def step(self, states: NDArray[np.object_], actions: NDArray[Any]) -> Step:
        """One decision of every lane ``[n]`` under option indices ``[n, F]``; rewards are points of the game."""
        n = len(states)
        self._emulators.reserve(n)
        after, rewards, terminated = np.empty(n, object), np.zeros(n), np.zeros(n, bool)
        for i, (state, code) in enumerate(zip(states, self.codes(actions).tolist(), strict=True)):
            after[i], rewards[i], terminated[i] = self._decide(state, code)
        if isfinite(self.clip_rewards):
            rewards = np.clip(rewards, -self.clip_rewards, self.clip_rewards)
        return Step(after, rewards, terminated)

    def _decide(self, state: Console, code: int) -> tuple[Console, float, bool]:
        """The state after one decision, its score, and whether the episode is over."""
        emulator = self._emulators.at(state)
        lives = emulator.lives() if self.life_loss_ends else 0
        reward, executed, seen, played = 0, state.executed, [], list(state.played)
        for k in range(1, self.action_repeat + 1):
            if not self.sticky_actions or sticky(state.key, state.n_frames + k) >= self.sticky_actions:
                executed = code
            reward += emulator.act(executed)
            played.append(executed)
            if self.stack_of == "frames" and k > self.action_repeat - self.stack:
                seen.append(self._screen.frame(emulator.getScreenGrayscale()))
            elif self.frame_pool == "max" and k == self.action_repeat - 1:
                before = emulator.getScreenGrayscale()
        if self.stack_of == "observations":
            screen = emulator.getScreenGrayscale()
            if self.frame_pool == "max" and self.action_repeat > 1:
                screen = np.maximum(screen, before)
            seen.append(self._screen.frame(screen))
        frames = (*state.frames, *seen)[-self.stack :]
        n_frames = state.n_frames + self.action_repeat
        after = Console(state.snapshot, tuple(played), frames, executed, n_frames, state.key)
        if len(played) >= SNAPSHOT_EVERY * self.action_repeat:
            after.take_snapshot(emulator)
        self._emulators.put(emulator, after)
        over = emulator.game_over() or (self.life_loss_ends and emulator.lives() < lives)
        return after, float(reward), over

    def render(self, states: NDArray[np.object_]) -> NDArray[np.uint8]:
        """The screen of each state in colour, ``[n, 210, 160, 3]``, as the lane that has just been stepped shows it."""
        screens = []
        for state in states:
            emulator = self._emulators.at(state)
            screens.append(emulator.getScreenRGB())
            self._emulators.put(emulator, state)
        return np.stack(screens)


def _require(holds: bool, field: str, value: object, what: str) -> None:
    if not holds:
        shown = list(value) if isinstance(value, tuple) else value
        raise ConfigError(f"env.{field}={shown} must be {what}")


class Emulators:
    """The emulators of this process: a cache, which changes what a step costs and never what it gives."""

    def __init__(self, game: str) -> None:
        rom = ale_roms.get_rom_path(game)
        assert rom is not None
        self._rom = rom
        self._capacity = 1
        self._made = 0
        self._standing: OrderedDict[int, tuple[Console, ALEInterface]] = OrderedDict()  # oldest first

    def at(self, state: Console) -> ALEInterface:
        """An emulator that stands at ``state``, which the caller takes out of the pool."""
        if (standing := self._standing.pop(id(state), None)) is not None:
            return standing[1]
        emulator = self.any()
        emulator.restoreState(state.snapshot)
        if state.played:
            for code in state.played:
                emulator.act(code)
            state.take_snapshot(emulator)  # a state that is wanted again is likely to be wanted more than once
        return emulator

    def reserve(self, n: int) -> None:
        """Have an emulator for each of ``n`` lanes; one takes 0.1 s to make and 0.9 MiB, so there are never more."""
        self._capacity = max(self._capacity, n)

    def any(self) -> ALEInterface:
        """An emulator in whatever state, taken out of the pool: a new one, or that which has stood still longest."""
        if self._made < self._capacity or not self._standing:
            self._made += 1
            return self._new()
        return self._standing.popitem(last=False)[1][1]

    def put(self, emulator: ALEInterface, state: Console) -> Console:
        """Give an emulator back that stands at ``state``; returns the state."""
        self._standing[id(state)] = (state, emulator)  # which keeps the state, and its id, alive
        return state

    def _new(self) -> ALEInterface:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        emulator = ALEInterface()
        emulator.setFloat("repeat_action_probability", 0.0)  # stickiness is drawn here, from the lane's own stream
        emulator.setInt("random_seed", SEED)
        emulator.loadROM(self._rom)
        emulator.act(NO_OP)  # ale-py 0.12.1 keeps out of its snapshots whether a frame is under way: finish it
        return emulator
