"""Section 5: from a policy to the batch of its next update, by single paths or by vines."""

from trpo_cli.samplers.single_path import SinglePath as SinglePath
from trpo_cli.samplers.vine import Vine as Vine
