"""Films of Gymnasium's environments: the environment draws what was played, and the scores stay the same."""

from pathlib import Path

import numpy as np
import pytest
from compose import executed, planned
from video_frames import frames

from trpo_cli.cli.evaluate import Request, evaluate
from trpo_cli.errors import ConfigError, RunError
from trpo_cli.samplers.randomness import Draw
from trpo_cli.sims.base import Filmable, Timed
from trpo_cli.sims.gymnasium import Gymnasium

PAINTED = "gym_envs:PaintedWalk-v0"
SMALL = ("env=gymnasium", "critic=none", "sampler.steps_per_iteration=40", "policy.input_scale=none", "iterations=1")


def test_a_film_shows_the_episodes_that_are_scored(tmp_path: Path):
    run = executed(planned(*SMALL, f"env.id={PAINTED}", f"outputs={tmp_path}"))
    request = Request(str(run), episodes=4, video=str(tmp_path / "a.mp4"), video_episodes=2)
    filmed = evaluate(request)
    assert filmed["returns"] == evaluate(Request(str(run), episodes=4))["returns"]
    fps, pictures = frames(tmp_path / "a.mp4")
    n_steps = [round(-value) for value in filmed["returns"]]  # each step costs 1
    assert fps == 20 and len(pictures) == n_steps[0] + n_steps[1] + 2
    assert pictures[n_steps[0]].mean() == pytest.approx(200, abs=4)  # the first episode ends at place 4


def test_its_pictures_are_those_of_the_states():
    sim = Gymnasium(PAINTED, None)
    assert isinstance(sim, Filmable)
    drawn = sim.for_film()
    assert isinstance(drawn, Timed) and drawn.dt == 1 / 20 and isinstance(drawn, Gymnasium)
    states = drawn.reset(Draw(0).generators("initial_state", range(3)))
    for action in (1, 1, 0):
        expected = 50 * drawn.observe(states)[:, 0]
        np.testing.assert_array_equal(drawn.render(states).mean((1, 2, 3)), expected)
        states = drawn.step(states, np.full((3, 1), action)).states


@pytest.mark.parametrize(
    ("env_id", "reason"),
    [("gym_envs:Walk-v0", "unexpected keyword argument 'render_mode'"), ("gym_envs:FlatWalk-v0", "returns a list")],
)
def test_an_environment_without_pictures_is_refused_before_an_episode_is_played(env_id: str, reason: str):
    with pytest.raises(ConfigError, match=rf"^env\.id={env_id} cannot be filmed \(.*render_mode=rgb_array") as caught:
        Gymnasium(env_id, None).for_film()
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_pictures_that_change_their_shape_end_the_film_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    drawn = Gymnasium(PAINTED, None).for_film()
    states = drawn.reset(Draw(0).generators("initial_state", range(1)))  # type: ignore[attr-defined]
    monkeypatch.setattr(states[0].episode.env, "render", lambda: np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(RunError, match=r"cannot be filmed: its pictures do not all have the shape \(10, 20, 3\)$"):
        drawn.render(states)


def test_an_environment_that_sees_what_it_draws_is_given_the_mode():
    env = ("env=gymnasium", f"env.id={PAINTED}", "policy=conv", "critic=none")
    with pytest.raises(ConfigError, match="it draws in rgb_array only"):
        planned(*env, "env.kwargs={seen: true}")
    assert planned(*env, "env.kwargs={seen: true, render_mode: rgb_array}").task.sim.obs_shape == (3, 10, 20)
