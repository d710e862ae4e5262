"""From an Atari screen to one observation: gray, cropped, averaged over areas (supplement to Section 8.2)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError

SCREEN = (210, 160)  # lines and columns of the console's picture

Frame = NDArray[np.uint8]  # [rows, columns]


def area_weights(n_in: int, n_out: int) -> NDArray[np.float32]:
    """``[n_out, n_in]``: the share of each input pixel in each output pixel. Each row sums to one."""
    edges = np.arange(n_out + 1) * (n_in / n_out)
    low, high = edges[:-1, None], edges[1:, None]
    pixels = np.arange(n_in)
    overlap = np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)


def check_screen(lines: tuple[int, int], size: tuple[int, int]) -> None:
    """Raise ConfigError unless ``lines`` lie on the screen and hold at least ``size`` pixels."""
    if len(lines) != 2 or not 0 <= lines[0] < lines[1] <= SCREEN[0]:
        raise ConfigError(f"env.screen_lines={list(lines)} must be two rising numbers from 0 to {SCREEN[0]}")
    n_lines = lines[1] - lines[0]
    if len(size) != 2 or not (1 <= size[0] <= n_lines and 1 <= size[1] <= SCREEN[1]):
        raise ConfigError(f"env.size={list(size)} must be two numbers between [1, 1] and [{n_lines}, {SCREEN[1]}]")


@dataclass(frozen=True)
class Screen:
    """Which part of the console's picture is seen, and how large an observation is."""

    lines: tuple[int, int]  # the first line that is seen, and the first after those that are seen
    size: tuple[int, int]  # rows and columns of an observation

    def __post_init__(self) -> None:
        check_screen(self.lines, self.size)

    def frame(self, gray: NDArray[np.uint8]) -> Frame:
        """The observation of one gray screen ``[210, 160]``; read-only, because several states share it."""
        frame = self._block_means(gray) if self._has_whole_blocks else self._area_means(gray)
        frame.setflags(write=False)
        return frame

    @cached_property
    def _has_whole_blocks(self) -> bool:
        """True if each output pixel is a block of whole input pixels, of which a sum fits into 16 bits.

        A block of 256 pixels, each at most 255, has a sum of at most 65280 < 2^16.
        """
        high, wide = (self.lines[1] - self.lines[0]) / self.size[0], SCREEN[1] / self.size[1]
        return high.is_integer() and wide.is_integer() and high * wide <= 256

    def _block_means(self, gray: NDArray[np.uint8]) -> Frame:
        """The rounded mean of each block; integers only, since this runs once per decision."""
        first, end = self.lines
        high, wide = (end - first) // self.size[0], SCREEN[1] // self.size[1]
        rows = [gray[first + i : end : high] for i in range(high)]
        lines = np.add(rows[0], rows[1], dtype=np.uint16) if high > 1 else rows[0].astype(np.uint16)
        for row in rows[2:]:
            lines += row
        if wide == 4:
            total = _sum_of_four_neighbours(lines)
        else:
            total = lines.reshape(len(lines), -1, wide).sum(2, dtype=np.uint16)
        area = np.uint16(high * wide)
        return ((total + area // 2) // area).astype(np.uint8)

    def _area_means(self, gray: NDArray[np.uint8]) -> Frame:
        """The rounded mean of the area of each output pixel, whose edges may cut input pixels."""
        lines, columns = self._weights
        averages = lines @ gray[slice(*self.lines)].astype(np.float32) @ columns.T
        return np.rint(averages).astype(np.uint8)

    @cached_property
    def _weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return area_weights(self.lines[1] - self.lines[0], self.size[0]), area_weights(SCREEN[1], self.size[1])


def _sum_of_four_neighbours(lines: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """``lines.reshape(rows, -1, 4).sum(2)``, several times faster than any way with NumPy's own sums.

    ``lines`` is contiguous, ``[rows, columns]``, and each sum of four is less than B = 2^16.

    Proof: four neighbours a, b, c, d lie in memory as the 64-bit number N = a + b B + c B² + d B³ (little-endian). To
    the base B, the product N (1 + B + B² + B³) has the digits a, a + b, a + b + c, a + b + c + d, and more digits from
    B⁴ on, which do not fit into 64 bits and are lost. Each digit is less than B, so none carries into the next one. The
    digit of B³, which is the last that is kept, is the sum.
    """
    products = lines.view("<u8") * np.uint64(1 + (1 << 16) + (1 << 32) + (1 << 48))
    return products.view("<u2")[:, 3::4]
