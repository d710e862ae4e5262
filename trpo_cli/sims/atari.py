"""Atari 2600 games from pixels, as a batch of emulator states (Section 8.2, Table 3, Appendix D).

A state is a value: a snapshot of the emulator, the actions since the snapshot, and the last observations. Consecutive
states share their frames. Each process keeps emulators, and each emulator stands at the state that it reached last. If
no emulator stands at a state any more, another emulator is restored to the state; the result of a step is the same.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
from ale_py import ALEInterface
from ale_py import roms as ale_roms
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError, require
from trpo_cli.sims.atari_console import NO_OP, Console, Emulators, sticky
from trpo_cli.sims.atari_screen import Screen, check_screen
from trpo_cli.sims.base import Discrete, SavedState, Step

FRAME_S = 1 / 60  # seconds per frame of the console
MAX_LANES = 128  # more lanes do not make the policy faster
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
SNAPSHOT_EVERY = 8  # decisions; a snapshot takes 25 µs, playing one decision again takes 210 µs


@dataclass(frozen=True)
class Atari:
    """One game under one protocol; numbers and sources stand in ``conf/env/atari.yaml``.

    Paper: it does not state the frame skip, the start and the length of an episode, and whether a lost life ends it.
    Here they are those of the authors' code. The channels are the last four observations, one per decision; the
    authors' code takes the four frames of one decision instead.

    Raises:
        ConfigError: a field is out of its range, or there is no such game.
    """

    game: str  # ALE's name of the ROM, for example beam_rider
    action_repeat: int  # frames that one decision lasts
    sticky_actions: float  # probability that a frame repeats the action of the frame before it
    start_no_ops: int  # frames of no-op that every episode starts with
    random_no_ops: int  # each episode starts with up to this many further frames of no-op, drawn uniformly
    frame_pool: str  # last: an observation is a decision's last frame; max: the brighter of its last two
    screen_lines: tuple[int, int]  # first of the 210 lines that is seen, and the first after those that are seen
    size: tuple[int, int]  # rows and columns of an observation, by area averages of the gray screen
    stack: int  # how many of the last observations the policy sees at once
    stack_of: str  # observations: one per decision; frames: every frame, as in the authors' code
    actions: str  # factored: stick right-left, up-down, fire; joint: its 18 positions; minimal: those the game reads
    life_loss_ends: bool  # an episode ends when the first life is lost, and not only at the end of the game
    clip_rewards: float  # rewards are clipped to +- this; inf: the raw score

    def __post_init__(self) -> None:
        _require(self.action_repeat >= 1, "action_repeat", self.action_repeat, "at least 1")
        _require(0 <= self.sticky_actions < 1, "sticky_actions", self.sticky_actions, "in [0, 1)")
        for name in ("start_no_ops", "random_no_ops"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        words = {"frame_pool": POOLS, "stack_of": STACKS, "actions": ACTIONS}
        for name, choices in words.items():
            _require(getattr(self, name) in choices, name, getattr(self, name), " or ".join(choices))
        check_screen(self.screen_lines, self.size)
        _require(self.stack >= 1, "stack", self.stack, "at least 1")
        frames = self.stack_of == "frames"
        _require(
            not frames or self.stack <= self.action_repeat,
            "stack",
            self.stack,
            f"at most env.action_repeat={self.action_repeat} if env.stack_of=frames",
        )
        _require(not frames or self.frame_pool == "last", "frame_pool", self.frame_pool, "last if env.stack_of=frames")
        _require(self.clip_rewards > 0, "clip_rewards", self.clip_rewards, "> 0 (.inf for the raw score)")
        if self.game not in (known := sorted(ale_roms.get_all_rom_ids())):
            near = get_close_matches(_as_rom(self.game), known, 1, 0.7)
            hint = f"did you mean env.game={near[0]}?" if near else f"ale-py has {', '.join(known)}"
            raise ConfigError(f"env.game={self.game} does not exist; {hint}")

    @cached_property
    def _screen(self) -> Screen:
        return Screen(self.screen_lines, self.size)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""
        return (self.stack, *self.size)

    @property
    def max_lanes(self) -> int:
        """Each lane has its own emulator."""
        return MAX_LANES

    @property
    def n_state(self) -> int:
        """Bytes of the console's memory."""
        return RAM_SIZE

    @property
    def dt(self) -> float:
        """Seconds per decision."""
        return self.action_repeat * FRAME_S

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
    def _emulators(self) -> Emulators:
        return Emulators(self.game)

    def codes(self, actions: NDArray[Any]) -> NDArray[np.int64]:
        """ALE's code ``[n]`` of each row of option indices ``[n, F]``."""
        actions = np.asarray(actions, np.int64)
        if self.actions == "factored":
            return JOYSTICK[actions[:, 0], actions[:, 1], actions[:, 2]]
        return actions[:, 0] if self.actions == "joint" else self._minimal[actions[:, 0]]

    @cached_property
    def _start(self) -> Console:
        """The deterministic start: reset, then no-ops; the first observation fills every channel."""
        emulator = self._emulators.any()
        emulator.reset_game()
        return self._opening(emulator, self.start_no_ops, key=0)

    def reset(self, rngs: Sequence[np.random.Generator]) -> NDArray[np.object_]:
        """The start of an episode for each lane ``[n]``, after random no-ops if ``random_no_ops`` is set."""
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
        """The state after ``n_no_ops`` frames of no-op; the first observation fills every channel."""
        for _ in range(n_no_ops):
            emulator.act(NO_OP)
        first = self._screen.frame(emulator.getScreenGrayscale())
        return self._emulators.put(emulator, Console(emulator.cloneState(), (), (first,) * self.stack, NO_OP, 0, key))

    def observe(self, states: NDArray[np.object_]) -> NDArray[np.object_]:
        """The frames ``[n, stack]`` of each state: arrays ``[rows, columns]``, shared by consecutive states."""
        obs = np.empty((len(states), self.stack), object)
        for i, state in enumerate(states):
            for j, frame in enumerate(state.frames):
                obs[i, j] = frame
        return obs

    def step(self, states: NDArray[np.object_], actions: NDArray[Any]) -> Step:
        """One decision of each lane ``[n]`` under option indices ``[n, F]``; rewards are points of the game."""
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

    def require_saving(self) -> None:
        """The console can always be saved."""

    def to_saved(self, states: NDArray[np.object_]) -> list[SavedState]:
        """Per state the fields of its `Console`, with the snapshot as bytes."""
        return [state.to_saved() for state in states]

    def from_saved(self, saved: Sequence[SavedState]) -> NDArray[np.object_]:
        """The states that `to_saved` turned into arrays."""
        states = np.empty(len(saved), object)
        for i, lane in enumerate(saved):
            states[i] = Console.from_saved(lane)
        return states

    def render(self, states: NDArray[np.object_]) -> NDArray[np.uint8]:
        """The screen of each state in colour, ``[n, 210, 160, 3]``.

        Draw a state directly after the step that led to it: an emulator that is restored to a state still shows the
        last picture that it had before.
        """
        screens = []
        for state in states:
            emulator = self._emulators.at(state)
            screens.append(emulator.getScreenRGB())
            self._emulators.put(emulator, state)
        return np.stack(screens)


def _as_rom(game: str) -> str:
    """``ALE/MsPacman-v5`` in the way that ROMs are named: ``ms_pacman``."""
    name = re.sub(r"^ALE/|(NoFrameskip|Deterministic)?-v\d+$", "", game)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[ -]", "_", name).lower()


def _require(holds: bool, field: str, value: object, what: str) -> None:
    require(holds, f"env.{field}", list(value) if isinstance(value, tuple) else value, what)
