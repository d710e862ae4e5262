"""Pictures of the cart-pole show what its state says. (MuJoCo's need OpenGL: see test_evaluation.)"""

import numpy as np
import pytest
from toy_sims import cartpole

from trpo_cli.sims.camera import HEIGHT, WIDTH
from trpo_cli.sims.cartpole_picture import CART, INK, POLE


def centre(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Mean place (x, y) in pixels of what has this colour."""
    y, x = np.nonzero((picture == colour).all(-1))
    return x.mean(), y.mean()


@pytest.mark.parametrize("position", [-2.4, -1.0, 0.0, 1.7])
def test_the_cart_is_where_its_position_says_between_the_limits(position: float):
    picture, left, right = cartpole().render(np.array([[x, 0, 0, 0] for x in (position, -2.4, 2.4)]))
    ends = centre(left, CART)[0], centre(right, CART)[0]
    assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8
    assert centre(picture, CART)[0] == pytest.approx(np.interp(position, [-2.4, 2.4], ends), abs=1)
    marks = np.nonzero((cartpole().render(np.zeros((1, 4)))[0] == INK).all(-1).any(0))[0]
    assert marks.min() == pytest.approx(ends[0], abs=2) and marks.max() == pytest.approx(ends[1], abs=2)


def test_the_pole_leans_as_its_angle_says():
    upright, right, left = (
        centre(p, POLE) for p in cartpole().render(np.array([[0, 0, a, 0] for a in (0, 0.6, -0.6)]))
    )
    assert upright[0] == pytest.approx(WIDTH / 2, abs=1)
    assert right[0] - upright[0] == pytest.approx(upright[0] - left[0], abs=1) and right[0] > upright[0] + 20
    assert left[1] == pytest.approx(right[1], abs=1) and right[1] > upright[1] + 5
    assert right[0] - upright[0] == pytest.approx((HEIGHT - 60 - right[1]) * np.tan(0.6), rel=0.02)  # about the axle


def test_velocities_are_not_seen_and_what_leaves_the_picture_is_not_drawn():
    still, moving, gone = cartpole().render(np.array([[0, 0, 0.1, 0], [0, 3, 0.1, -2], [50.0, 0, 0, 0]]))
    np.testing.assert_array_equal(still, moving)
    assert not (gone == CART).all(-1).any()
