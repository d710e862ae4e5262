"""The parts of a run as ``trpo-train`` composes them, ready to be measured."""

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
    """The parts of a run with single paths."""

    sim: Any  # the measurements read fields of the task's own simulator
    policy: Any  # with its input map measured
    theta: Tensor  # [D] of a new policy
    sampler: SinglePath
    algorithm: PolicyUpdate


ANYTHING = [-1e9, 1e9]  # m, rad, m/s, rad/s: a range that no state leaves


def parts(*overrides: str, surviving: bool = False) -> Parts:
    """Return the parts of ``trpo-train`` with these overrides.

    surviving: no state ends an episode, as if the policy had learnt not to fall
    """
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", list(overrides))
    sim, mlp, sampler, optimizer = (build(cfg[group], group) for group in ("env", "policy", "sampler", "optimizer"))
    if surviving:
        sim = replace(sim, healthy_height=ANYTHING, healthy_angle=ANYTHING, healthy_state=ANYTHING)
    task, policy, draw = Task(sim, cfg.step_limit), mlp.build(sim.obs_shape, sim.action_space), Draw(SEED)
    if policy.input_scale == "percentile":
        policy = replace(policy.with_input_map(measure_input_map(task, policy, draw)), input_scale="fixed")
    theta = policy.initial(draw.generator("initial_policy"))
    critic = build(cfg.critic, "critic").build(sim.obs_shape) if cfg.critic else None
    return Parts(sim, policy, theta, sampler, PolicyUpdate(task, policy, sampler, optimizer, SEED, critic))
