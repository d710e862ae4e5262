"""The states of Atari's console, and the emulators that a process keeps to step them."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

import numpy as np
from ale_py import ALEInterface, ALEState, LoggerMode
from ale_py import roms as ale_roms

from trpo_cli.sims.atari_screen import Frame
from trpo_cli.sims.base import SavedState

SEED = 1  # of the console's memory at power-on, the same in every episode; -1 would take the time of day
NO_OP = 0  # ALE's code of doing nothing
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # SplitMix64
_GOLDEN, _MASK = 0x9E3779B97F4A7C15, 2**64 - 1


@dataclass(eq=False, slots=True)
class Console:
    """The state of one lane.

    Taking a snapshot costs a tenth of a decision's time. So most states keep the snapshot of an earlier state, together
    with the actions since then.
    """

    snapshot: ALEState
    played: tuple[int, ...]  # ALE's code of the action in each frame since the snapshot
    frames: tuple[Frame, ...]  # the observations that make one input of the policy, oldest first
    executed: int  # ALE's code of the action in the last frame; a sticky action repeats it
    n_frames: int  # frames since the start of the episode
    key: int  # names this episode's stream of random numbers for sticky actions

    def take_snapshot(self, emulator: ALEInterface) -> None:
        """Replace the earlier snapshot by one of this state. The emulator must stand at this state."""
        self.snapshot, self.played = emulator.cloneState(), ()

    def to_saved(self) -> SavedState:
        """The state as arrays of numbers."""
        return {
            "snapshot": np.frombuffer(self.snapshot.serialize(), np.uint8),
            "played": np.array(self.played, np.int64),
            "frames": np.stack(self.frames),
            "numbers": np.array([self.executed, self.n_frames, self.key]),
        }

    @classmethod
    def from_saved(cls, saved: SavedState) -> Self:
        """The state that `to_saved` turned into arrays."""
        executed, n_frames, key = saved["numbers"].tolist()
        snapshot, played = ALEState(saved["snapshot"].tobytes()), tuple(saved["played"].tolist())
        return cls(snapshot, played, tuple(saved["frames"]), executed, n_frames, key)


def sticky(key: int, frame: int) -> float:
    """Number ``frame`` of the stream of uniform numbers in [0, 1) that ``key`` names (SplitMix64)."""
    z = (key + (frame + 1) * _GOLDEN) & _MASK
    for shift, factor in _MIX:
        z = ((z ^ (z >> shift)) * factor) & _MASK
    return float((z ^ (z >> 31)) >> 11) / 2.0**53


class Emulators:
    """The emulators of this process, each with the state at which it stands.

    They are a cache: they change how long a step takes, and never its result.
    """

    def __init__(self, game: str) -> None:
        rom = ale_roms.get_rom_path(game)
        assert rom is not None
        self._rom = rom
        self._capacity = 1
        self._made = 0
        self._standing: OrderedDict[int, tuple[Console, ALEInterface]] = OrderedDict()  # id of a state -> it; by age

    def at(self, state: Console) -> ALEInterface:
        """An emulator that stands at ``state``. It leaves the cache; the caller gives it back by `put`."""
        if (standing := self._standing.pop(id(state), None)) is not None:
            return standing[1]
        emulator = self.any()
        emulator.restoreState(state.snapshot)
        if state.played:
            for code in state.played:
                emulator.act(code)
            state.take_snapshot(emulator)  # a state that is needed a second time is likely to be needed again
        return emulator

    def reserve(self, n: int) -> None:
        """Allow one emulator for each of ``n`` lanes. Making one takes 0.1 s and 0.9 MiB, so there are never more."""
        self._capacity = max(self._capacity, n)

    def any(self) -> ALEInterface:
        """An emulator at an arbitrary state: a new one, or the one that was not used for the longest time."""
        if self._made < self._capacity or not self._standing:
            self._made += 1
            return self._new()
        return self._standing.popitem(last=False)[1][1]

    def put(self, emulator: ALEInterface, state: Console) -> Console:
        """Give back an emulator that stands at ``state``; returns the state."""
        self._standing[id(state)] = (state, emulator)  # holding the state keeps its id from being used again
        return state

    def _new(self) -> ALEInterface:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        emulator = ALEInterface()
        emulator.setFloat("repeat_action_probability", 0.0)  # `sticky` decides, from the lane's own random numbers
        emulator.setInt("random_seed", SEED)
        emulator.loadROM(self._rom)
        # A snapshot of ale-py 0.12.1 does not say whether the emulator is in the middle of a frame: finish the frame.
        emulator.act(NO_OP)
        return emulator
