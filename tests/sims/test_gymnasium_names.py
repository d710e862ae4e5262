"""What a user writes for an environment: an id or an argument that does not work is answered with what would."""

import gym_envs  # noqa: F401 - registers its environments
import pytest

from trpo_cli.errors import ConfigError
from trpo_cli.sims.gymnasium_names import require_arguments, way_to


@pytest.mark.parametrize(
    ("env_id", "answer"),
    [
        ("CartPole", "did you mean env.id=CartPole-v1?"),
        ("cartpole-v1", "did you mean env.id=CartPole-v1?"),
        ("CartPole-v0", "did you mean env.id=CartPole-v0?"),
        ("CartPole-v99", "did you mean env.id=CartPole-v1?"),
        ("Hopper", "did you mean env.id=Hopper-v5?"),
        ("Acrobt-v1", "did you mean env.id=Acrobot-v1?"),
        ("gym_envs:Wlk-v0", "did you mean env.id=gym_envs:Walk-v0?"),
        ("gym_envs:Elsewhere-v0", "the package gym_envs does not register it"),
        ("MiniGrid-Empty-5x5-v0", "if another package registers it, write env.id=minigrid:MiniGrid-Empty-5x5-v0"),
        ("Elsewhere-v0", "if another package registers it, write env.id=package:Elsewhere-v0"),
    ],
)
def test_an_id_is_answered_with_the_nearest_or_with_the_way_to_a_package(env_id: str, answer: str):
    assert way_to(env_id) == answer


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"max_episode_steps": 3}, r"^env\.kwargs\.max_episode_steps is not.*step_limit=…"),
        ({"render_mode": "human"}, r"^env\.kwargs\.render_mode=human would open.*trpo-eval run=… video=film\.mp4$"),
    ],
)
def test_arguments_that_training_cannot_use_are_refused(kwargs: dict[str, object], sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        require_arguments(kwargs)
    require_arguments({"render_mode": "rgb_array", "length": 3})
