"""The shipped MuJoCo tasks, random actions for them, and states that such actions lead to."""

from pathlib import Path

import gymnasium
import numpy as np
from compose import composed
from omegaconf import OmegaConf

from trpo_cli.sims.locomotion import Locomotion

CONF = Path(__file__).parents[2] / "conf" / "env"
ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
PAPER = ["swimmer", "hopper", "walker"]
GYMNASIUM = {
    "hopper_v5": "Hopper-v5",
    "walker2d_v5": "Walker2d-v5",
    "swimmer_v5": "Swimmer-v5",
    "half_cheetah_v5": "HalfCheetah-v5",
}
TASKS = [*PAPER, *GYMNASIUM]


def shipped(task, **changes):
    node = OmegaConf.to_container(composed(f"env={task}")[0].env)
    assert node.pop("_target_") == "trpo_cli.sims.locomotion.Locomotion"
    return Locomotion(**{**node, **changes})


def actions_for(sim, n, seed=1):
    """Controls `[n, A]` of which about a fifth lie beyond the control range."""
    return np.random.default_rng(seed).normal(size=(n, sim.action_space.size)) * 0.8


def visited(sim, n, n_steps, seed=0):
    """States `[n, S]` after ``n_steps`` of random actions: spread out, many fallen and in contact with the ground."""
    states = sim.reset(np.random.default_rng(seed).spawn(n))
    for t in range(n_steps):
        states = sim.step(states, actions_for(sim, n, seed=t)).states
    return states
