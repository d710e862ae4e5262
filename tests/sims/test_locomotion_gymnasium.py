"""The v5 tasks step by step beside Gymnasium's own environments."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils import seeding
from planar_bodies import GYMNASIUM, shipped


@pytest.mark.filterwarnings("ignore:compiler attribute 'settotalmass'")  # Gymnasium's half-cheetah file
@pytest.mark.parametrize("task", GYMNASIUM)
def test_gymnasium_lockstep(task):
    """200 steps side by side, actions beyond the control range and unhealthy states included.

    Each step is compared from Gymnasium's own state, and the whole run from the common start. The whole run of the
    cheetah is not compared, because its contacts amplify rounding (1e-13 per step) tenfold every few steps.
    """
    sim, env = shipped(task), gymnasium.make(GYMNASIUM[task]).unwrapped
    rng = np.random.default_rng(0)
    env.reset(seed=3)
    free = sim.reset([seeding.np_random(3)[0]])
    assert sim.dt == env.dt and sim.obs_shape == env.observation_space.shape
    np.testing.assert_array_equal(sim.action_space.low, env.action_space.low)
    np.testing.assert_array_equal(sim.action_space.high, env.action_space.high)
    np.testing.assert_array_equal(free[0, 1:], env.state_vector())
    ends = 0
    for t in range(200):
        action = rng.normal(size=sim.action_space.size) * 0.8
        state = np.concatenate([[0.0], env.state_vector()])
        obs, reward, terminated, _, _ = env.step(action)
        step = sim.step(np.stack([state, free[0]]), np.stack([action, action]))
        free = step.states[1:]
        n_compared = 1 if task == "half_cheetah_v5" else 2
        for lane in range(n_compared):
            np.testing.assert_allclose(step.states[lane, 1:], env.state_vector(), rtol=0, atol=1e-9, err_msg=f"{t=}")
            np.testing.assert_allclose(step.rewards[lane], reward, rtol=0, atol=1e-9)
            np.testing.assert_allclose(sim.observe(step.states)[lane], obs, rtol=1e-6, atol=1e-6)
            assert step.terminated[lane] == terminated
        ends += terminated
    assert (ends > 0) == task.startswith(("hopper", "walker"))
    env.close()


@pytest.mark.parametrize(
    ("place", "value", "healthy"),
    [("qvel", 99.0, True), ("qvel", -130.0, False), ("qpos", 0.15, True), ("qpos", 0.21, False)],
)
def test_gymnasium_health_at_the_edges(place, value, healthy):
    """A spinning foot joint (its state range) and a leaning torso (its angle range), one step each."""
    sim, env = shipped("hopper_v5"), gymnasium.make("Hopper-v5").unwrapped
    env.reset(seed=0)
    qpos, qvel = np.array([0, 1.5, 0, 0, 0, 0], float), np.zeros(6)
    if place == "qvel":
        qvel[5] = value
    else:
        qpos[2] = value
    env.set_state(qpos, qvel)
    _, reward, terminated, _, _ = env.step(np.zeros(3))
    step = sim.step(np.concatenate([[0.0], qpos, qvel])[None], np.zeros((1, 3)))
    assert (step.terminated[0], not step.terminated[0]) == (terminated, healthy)
    np.testing.assert_allclose(step.rewards[0], reward, rtol=0, atol=1e-9)
    env.close()


def test_half_cheetah_starts_with_normal_velocities():
    velocities = shipped("half_cheetah_v5").reset(np.random.default_rng(0).spawn(3000))[:, 10:]
    np.testing.assert_allclose(velocities.std(axis=0), 0.1, rtol=0.05)
    assert np.abs(velocities).max() > 0.3
