"""A policy with fixed parameters for each of the toy simulators, and the task of at most 20 steps that it acts in."""

import numpy as np
import torch
from toy_sims import Array, Chain, Echo, Point, mlp

from trpo_cli.parallel.group import Group
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.sims.base import Task

WORLD = Group()
CHAIN, POINT, ECHO = Chain(), Point(), Echo()
CHAIN_TASK, POINT_TASK, ECHO_TASK = Task(CHAIN, 20), Task(POINT, 20), Task(ECHO, 20)
CHAIN_POLICY, POINT_POLICY, ECHO_POLICY = mlp(CHAIN), mlp(POINT), mlp(ECHO)
CHAIN_THETA = torch.from_numpy(np.random.default_rng(0).standard_normal(CHAIN_POLICY.n_parameters))
POINT_THETA = torch.tensor([-0.5, 0.0, np.log(0.5)]).double()  # pushes back with half of x
ECHO_THETA = torch.tensor([0.1, -0.2, 0.3, np.log(0.5)]).double()  # 0.1 obs_0 - 0.2 obs_1 + 0.3, std 0.5
POINT_ACTOR, ECHO_ACTOR = PolicyActor(POINT_POLICY, POINT_THETA), PolicyActor(ECHO_POLICY, ECHO_THETA)
CHAIN_PLACES = np.arange(4.0)[:, None]


def probabilities(theta: torch.Tensor = CHAIN_THETA) -> Array:
    """The chain policy's choices at every place `[4, 3]`."""
    logits = CHAIN_POLICY.params(theta, CHAIN_POLICY.tensor(CHAIN.observe(CHAIN_PLACES)))
    return logits.softmax(1).numpy()
