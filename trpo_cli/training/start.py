"""A run that begins with what another one has learnt: ``init_from``."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trpo_cli.critics.base import Critic
from trpo_cli.errors import ConfigError
from trpo_cli.policies.base import Policy
from trpo_cli.runs.files import DESCRIPTION
from trpo_cli.runs.load import read_checkpoint
from trpo_cli.training.state import TrainingState


@dataclass(frozen=True)
class Start:
    """Policy, input map and value function of another run's last state, which fit this run's."""

    source: TrainingState

    def replaces(self, fresh: TrainingState) -> TrainingState:
        """The state before iteration 0 with the source's policy, input map and, if both have one, value function.

        The steps that measured a fresh policy's inputs do not count: their result is not used.
        """
        source = self.source
        critic = fresh.critic if fresh.critic is None or source.critic is None else source.critic
        learnt = replace(fresh, theta=source.theta, input_map=source.input_map, inputs=source.inputs, critic=critic)
        return replace(learnt, sim_steps_total=0)


def start_from(run: Path, policy: Policy, critic: Critic | None) -> Start:
    """The start that a run directory gives for this policy and value function; ConfigError if it does not fit."""
    if not (run / DESCRIPTION).is_file():
        raise ConfigError(f"init_from={run} is no run directory: it has no {DESCRIPTION}")
    source = TrainingState.from_dict(read_checkpoint(run))
    sizes = [("policy", len(source.theta), policy.n_parameters)]
    if critic is not None and source.critic is not None:
        fresh = critic.initial(np.random.default_rng(0))
        sizes.append(("value function", len(source.critic.theta), len(fresh.theta)))
    for what, theirs, ours in sizes:
        if theirs != ours:
            raise ConfigError(
                f"init_from={run} has a {what} of {theirs} parameters, and this run's has {ours}: choose the same "
                "networks, and a task with observations and actions of the same sizes"
            )
    if (source.inputs is None) != (policy.input_scale != "running"):
        scale = "running" if source.inputs is not None else "another one"
        raise ConfigError(f"init_from={run} has policy.input_scale={scale}, and this run has {policy.input_scale}")
    return Start(source)
