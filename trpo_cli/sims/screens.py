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
        """True where every output pixel is a whole number of input pixels."""
        return (self.lines[1] - self.lines[0]) % self.size[0] == 0 and SCREEN[1] % self.size[1] == 0

    def _blocks(self, gray: NDArray[np.uint8]) -> Frame:
        first, end = self.lines
        high, wide = (end - first) // self.size[0], SCREEN[1] // self.size[1]
        lines = gray[first:end:high].astype(np.uint32)
        for i in range(1, high):
            lines += gray[first + i : end : high]
        total = lines[:, ::wide].copy()
        for j in range(1, wide):
            total += lines[:, j::wide]
        area = high * wide
        return ((total + area // 2) // area).astype(np.uint8)

    def _areas(self, gray: NDArray[np.uint8]) -> Frame:
        lines, columns = self._weights
        averages = lines @ gray[slice(*self.lines)].astype(np.float32) @ columns.T
        return np.rint(averages).astype(np.uint8)

    @cached_property
    def _weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return area_weights(self.lines[1] - self.lines[0], self.size[0]), area_weights(SCREEN[1], self.size[1])
