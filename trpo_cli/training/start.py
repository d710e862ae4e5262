"""A run that begins with what another one has learnt: ``init_from``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trpo_cli.errors import ConfigError
from trpo_cli.runs.load import read_checkpoint, read_description_and_config, told_spaces
from trpo_cli.sims.base import Simulator
from trpo_cli.sims.spaces import spaces_of, to_json
from trpo_cli.training.state import TrainingState

# Settings that the source's state decides; all others of policy and value function decide what their numbers mean.
DECIDED = ("initial_std", "output_norm", "hidden_norm", "input_clip")
FREE = {
    "policy": (*DECIDED, "input_scale"),
    "critic": (
        *("gae_lambda", "least_advantage", "advantage_memory", "target_memory"),
        *("steps", "cg_iterations", "damping", "max_states"),
        *("epochs", "minibatch", "learning_rate"),
    ),
}


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
        learnt = replace(fresh, theta=source.learnt, input_map=source.input_map, inputs=source.inputs, critic=critic)
        return replace(learnt, sim_steps_total=0)


def start_from(run: Path, checkpoint: str, config: Mapping[str, Any], sim: Simulator) -> Start:
    """The start that a run directory gives for a run of this configuration; ConfigError if it does not fit.

    checkpoint: last, or best
    """
    info, theirs = read_description_and_config(run, f"init_from={run}")
    told = told_spaces(info) or {}  # older versions did not tell them
    for name, space in zip(("observation", "action"), spaces_of(sim), strict=True):
        if name in told and (sizes := _sizes(told[name])) != (ours := _sizes(to_json(space))):
            raise ConfigError(f"init_from={run} has {name}s of the sizes {sizes}, and this run's task has {ours}")
    for group, free in FREE.items():
        before, now = theirs.get(group) or {}, config[group] or {}
        for key in {**before, **now} if before and now else ():
            if key not in free and before.get(key) != now.get(key):
                raise ConfigError(
                    f"init_from={run} has {group}.{key}={before.get(key)}, and this run has {now.get(key)}: what was "
                    "learnt means something else with it"
                )
    try:
        source = TrainingState.from_dict(read_checkpoint(run, checkpoint))
    except ConfigError as error:
        sentence = str(error).replace("run=", "init_from=", 1).replace("leave checkpoint=", "leave init_checkpoint=")
        raise ConfigError(sentence) from error
    runs = config["policy"].get("input_scale") == "running"
    if (source.inputs is not None) != runs:
        raise ConfigError(
            f"init_from={run} has policy.input_scale={theirs['policy'].get('input_scale')}, and this run has "
            f"{config['policy'].get('input_scale')}: both have to be running, or neither"
        )
    return Start(source)


def _sizes(space: Mapping[str, Any]) -> Any:
    """What has to be the same for two spaces to have the same numbers of inputs or outputs."""
    parts = space.get("spaces")
    if isinstance(parts, Mapping):
        return {name: _sizes(part) for name, part in parts.items()}
    if parts is not None:
        return [_sizes(part) for part in parts]
    return next((space[key] for key in ("shape", "n", "nvec") if key in space), None)
