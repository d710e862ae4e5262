"""Laws of films: every state that is due is a frame, at the speed of the simulation, or nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from video_frames import frames

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.sims.base import Step
from trpo_cli.sims.video import film, to_film


@dataclass
class Screen:
    """A simulator whose picture of a state is as bright as the state's number."""

    dt: float = 0.05
    shape: tuple[int, int] = (304, 48)
    drawn: list[int] = field(default_factory=list)

    max_lanes = 1

    def reset(self, rngs):
        return np.zeros(1)

    def step(self, states, actions):
        return Step(states + actions, actions, np.zeros(1, bool))

    def render(self, states):
        self.drawn += states.tolist()
        return np.broadcast_to(states[:, None, None, None], (len(states), *self.shape, 3)).astype(np.uint8)


def play(path: Path, sim: Any, *episodes: Sequence[float]) -> None:
    """Film the simulator on its way through the differences of each episode."""
    with film(path, sim) as filmed:
        for steps in episodes:
            states = filmed.reset([])
            for step in steps:
                states = filmed.step(states, np.array([step])).states


def test_each_state_is_a_frame_and_the_episodes_follow_one_another(tmp_path: Path):
    play(tmp_path / "a.mp4", Screen(), [4.0] * 40, [10.0] * 15)
    fps, found = frames(tmp_path / "a.mp4")
    assert fps == 20
    brightness = [picture.mean() for picture in found]
    np.testing.assert_allclose(brightness, [*range(0, 161, 4), *range(0, 151, 10)], atol=3)


@pytest.mark.parametrize(("dt", "every", "fps"), [(0.008, 3, 41.67), (1 / 60, 1, 60), (0.002, 9, 55.56)])
def test_quick_steps_are_left_out_so_that_a_second_lasts_a_second(dt: float, every: int, fps: float, tmp_path: Path):
    screen = Screen(dt)
    play(tmp_path / "a.mp4", screen, [1.0] * 100)
    assert screen.drawn == list(range(0, 101, every))
    assert frames(tmp_path / "a.mp4")[0] == pytest.approx(fps, abs=0.01)


def test_small_pictures_are_enlarged_and_a_simulator_without_dt_is_shown_as_atari(tmp_path: Path):
    screen = Screen(shape=(210, 160))
    play(tmp_path / "a.mp4", SimpleNamespace(render=screen.render, reset=screen.reset), [])
    fps, found = frames(tmp_path / "a.mp4")
    assert fps == 15 and found[0].shape == (420, 320, 3)


def test_what_cannot_be_filmed_is_refused():
    with pytest.raises(ConfigError, match=r"^video=a\.avi must end in \.mp4$"):
        to_film(Path("a.avi"), Screen())
    with pytest.raises(ConfigError, match=r"^video=a\.mp4.*render\(states\)"):
        to_film(Path("a.mp4"), SimpleNamespace())
    to_film(Path("a.mp4"), Screen())


def test_a_failed_film_leaves_the_one_before_it(tmp_path: Path):
    def fail(states):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.mp4").write_text("before")
    with pytest.raises(RunError, match=r"a\.mp4: No space left on device$"):
        play(tmp_path / "a.mp4", SimpleNamespace(render=fail, reset=Screen().reset), [])
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.mp4", "before")]
