"""The rival of the value function's fit: it trains by the command in its file, and lowers the loss."""

from pathlib import Path

import numpy as np
import torch
from rivals.adam_critic import Adam

from trpo_cli.critics.gauss_newton import Problem
from trpo_cli.parallel.group import Group
from trpo_cli.policies.mlp import MlpNetwork

CONF = Path(__file__).parents[2] / "scripts/rivals/conf"


def test_adam_fits_a_function_and_ends_where_its_own_loss_says():
    rng = np.random.default_rng(0)
    network = MlpNetwork((2, 16, 1), "tanh", 0.01, 1.0, torch.float32)
    inputs = torch.from_numpy(rng.standard_normal((512, 2), np.float32))
    problem = Problem(network, inputs, torch.sin(inputs[:, 0]), 512, Group())
    theta, loss = Adam(epochs=50, minibatch=64, learning_rate=1e-2)(problem, network.initial(rng))
    assert loss == problem.loss(theta) < 0.01


def test_its_file_names_the_command_that_uses_it():
    text = (CONF.parent / "adam_critic.py").read_text()
    assert "--config-dir scripts/rivals/conf env=hopper_v5 critic=adam" in text
    assert (CONF / "critic/adam.yaml").is_file() and (CONF / "env_critic/gymnasium-single-adam.yaml").is_file()
