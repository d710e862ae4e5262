"""From an Atari screen to one observation: gray, cropped, averaged over areas (supplement to Section 8.2)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError

SCREEN = (210, 160)  # lines and columns of the console's picture

Frame = NDArray[np.uint8]  # [rows, columns]


def area_weights(n_in: int, n_out: int) -> NDArray[np.float32]:
    """``[n_out, n_in]``: how much of each input pixel lies in each output pixel; the rows sum to one."""
    edges = np.arange(n_out + 1) * (n_in / n_out)
    low, high = edges[:-1, None], edges[1:, None]
    pixels = np.arange(n_in)
    overlap = np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Screen:
    """What is seen of the console's picture."""

    lines: tuple[int, int]  # first line seen, and the first that no longer is
    size: tuple[int, int]  # rows and columns of an observation

    def __post_init__(self) -> None:
        first, end = self.lines
        if not 0 <= first < end <= SCREEN[0]:
            raise ConfigError(f"env.screen_lines={list(self.lines)} must rise within 0 and {SCREEN[0]}")
        if not (1 <= self.size[0] <= end - first and 1 <= self.size[1] <= SCREEN[1]):
            raise ConfigError(f"env.size={list(self.size)} must lie within [1, 1] and [{end - first}, {SCREEN[1]}]")

    def frame(self, gray: NDArray[np.uint8]) -> Frame:
        """The observation of one gray screen ``[210, 160]``; read-only, since many states will share it."""
        frame = self._blocks(gray) if self._whole else self._areas(gray)
        frame.setflags(write=False)
        return frame

    @cached_property
    def _whole(self) -> bool:
        """True where every output pixel is a whole number of input pixels, few enough to be added up in 16 bits."""
        high, wide = (self.lines[1] - self.lines[0]) / self.size[0], SCREEN[1] / self.size[1]
        return high.is_integer() and wide.is_integer() and high * wide <= 256

    def _blocks(self, gray: NDArray[np.uint8]) -> Frame:
        first, end = self.lines
        high, wide = (end - first) // self.size[0], SCREEN[1] // self.size[1]
        rows = [gray[first + i : end : high] for i in range(high)]
        lines = np.add(rows[0], rows[1], dtype=np.uint16) if high > 1 else rows[0].astype(np.uint16)
        for row in rows[2:]:
            lines += row
        if wide == 4:  # four neighbours lie in 64 bits, and times this number their sum is in the topmost 16
            total = (lines.view("<u8") * np.uint64(0x0001000100010001)).view("<u2")[:, 3::4]
        else:
            total = lines.reshape(len(lines), -1, wide).sum(2, dtype=np.uint16)
        area = np.uint16(high * wide)
        return ((total + area // 2) // area).astype(np.uint8)

    def _areas(self, gray: NDArray[np.uint8]) -> Frame:
        lines, columns = self._weights
        averages = lines @ gray[slice(*self.lines)].astype(np.float32) @ columns.T
        return np.rint(averages).astype(np.uint8)

    @cached_property
    def _weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return area_weights(self.lines[1] - self.lines[0], self.size[0]), area_weights(SCREEN[1], self.size[1])
