"""The value function and its fit. The advantages that are made from it stand in ``samplers/returns.py``."""

from trpo_cli.critics.conv import ConvCritic as ConvCritic
from trpo_cli.critics.mlp import MlpCritic as MlpCritic
