"""Pictures of a cart with a pole, drawn in NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # [height, width, 3]

HEIGHT, WIDTH = 360, 480  # pixels
WHITE, INK, TRACK, CART, POLE = ((255, 255, 255), (60, 60, 60), (190, 190, 190), (70, 70, 80), (200, 100, 40))
MARGIN = 1.25  # width of the picture divided by the width of the track
THICKNESS = 0.05  # m, half the thickness of the pole
CART_SIZE = (0.25, 0.12)  # m, half width and half height of the cart


def cart_and_pole(position: float, angle: float, pole_length: float, position_limit: float) -> Picture:
    """A cart at ``position`` (m) with its pole at ``angle`` (rad, from upright, to the right).

    pole_length: half the length of the pole, in m. position_limit: in m; marked on the track.
    """
    scale = WIDTH / (2 * MARGIN * position_limit)  # pixels per metre
    picture = np.full((HEIGHT, WIDTH, 3), WHITE, np.uint8)
    ground = HEIGHT - 60.0

    def at(x: float, height: float) -> tuple[float, float]:
        """Pixel of a place in metres. The origin is the axle of a cart in the middle of the track."""
        return WIDTH / 2 + scale * x, ground - scale * height

    _stroke(picture, at(-position_limit, 0), at(position_limit, 0), 1.5, TRACK)
    for end in (-position_limit, position_limit):
        _stroke(picture, at(end, -0.1), at(end, 0.1), 1.5, INK)
    half_width, half_height = CART_SIZE
    thickness = scale * half_height
    _stroke(picture, at(position - half_width, 0), at(position + half_width, 0), thickness, CART)
    tip = position + 2 * pole_length * np.sin(angle), 2 * pole_length * np.cos(angle)
    _stroke(picture, at(position, 0), at(*tip), max(scale * THICKNESS, 1.5), POLE)
    return picture


def _stroke(picture: Picture, start: tuple[float, float], end: tuple[float, float], radius: float, colour: Any) -> None:
    """Draw a line with round ends and a smooth edge; what lies outside the picture is left out."""
    (x0, y0), (x1, y1) = start, end
    reach = radius + 1
    left, right = (int(np.clip(x, 0, WIDTH)) for x in (min(x0, x1) - reach, max(x0, x1) + reach + 1))
    top, bottom = (int(np.clip(y, 0, HEIGHT)) for y in (min(y0, y1) - reach, max(y0, y1) + reach + 1))
    y, x = np.mgrid[top:bottom, left:right].astype(float)
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
    distance = np.hypot(x - x0 - along * dx, y - y0 - along * dy)
    cover = np.clip(radius + 0.5 - distance, 0, 1)[..., None]
    box = picture[top:bottom, left:right]
    box[:] = (box * (1 - cover) + np.asarray(colour) * cover).round()
