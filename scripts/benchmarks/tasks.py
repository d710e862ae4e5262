"""A task's parts as ``trpo-train`` composes them, ready to be measured."""

from dataclasses import dataclass, replace
from typing import Any

from hydra import compose, initialize_config_dir
from torch import Tensor

from trpo_cli.config.build import build
from trpo_cli.config.schema import conf_dir, register_schema
from trpo_cli.samplers.input_range import measure_input_map
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.single_path import SinglePath
from trpo_cli.sims.base import Task
from trpo_cli.training.algorithms import PolicyUpdate

SEED = 0


@dataclass(frozen=True)
class Parts:
    """What a run of single paths is made of."""

    sim: Any  # the task's own simulator, whose fields the measurements read
    policy: Any  # of the task's own kind; its input map measured
    theta: Tensor  # [D] of a fresh policy
    sampler: SinglePath
    algorithm: PolicyUpdate


ANYTHING = [-1e9, 1e9]  # m, rad, m/s, rad/s: a range that is checked and never left


def parts(*overrides: str, surviving: bool = False) -> Parts:
    """The parts of ``trpo-train`` with these overrides.

    surviving: no state ends an episode, as if the policy had learnt not to fall.
    """
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", list(overrides))
    sim, mlp, sampler, optimizer = (build(cfg[group], group) for group in ("env", "policy", "sampler", "optimizer"))
    if surviving:
        sim = replace(sim, healthy_height=ANYTHING, healthy_angle=ANYTHING, healthy_state=ANYTHING)
    task, policy, draw = Task(sim, cfg.task.step_limit), mlp.build(sim.obs_shape, sim.action_space), Draw(SEED)
    if policy.input_scale == "percentile":
        policy = replace(policy.with_input_map(measure_input_map(task, policy, draw)), input_scale="fixed")
    theta = policy.initial(draw.generator("initial_policy"))
    return Parts(sim, policy, theta, sampler, PolicyUpdate(task, policy, sampler, optimizer, SEED))
