"""A trained policy as a file for other programs: ONNX, a torch program or NumPy arrays, its description beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from trpo_cli.errors import ConfigError
from trpo_cli.policies.base import Exportable, Policy
from trpo_cli.policies.distributions import distribution_for
from trpo_cli.runs.checkpoint import write_atomically
from trpo_cli.runs.directory import to_json
from trpo_cli.runs.load import read_run
from trpo_cli.runs.trained import Description, input_dtype, input_shape, quiet
from trpo_cli.sims.gymnasium_spaces import action_space, channels_axis, is_picture


def export(run: Path, out: Path, checkpoint: str = "last") -> Description:
    """Write the policy of a run directory to ``out``, and its description beside it; returns the description.

    Raises ConfigError if the run has no policy that can be exported, or the name does not end in a known suffix.
    """
    if out.suffix not in WRITERS:
        raise ConfigError(f"out={out} must end in one of {', '.join(WRITERS)}")
    description, policy, theta = read_run(run, checkpoint)
    write(out, description, policy, theta)
    return description


def write(out: Path, description: Description, policy: Policy, theta: Tensor) -> None:
    """Write a policy with its parameters ``[D]`` to ``out``, and its description beside it."""
    if not isinstance(policy, Exportable) or policy.dist != distribution_for(action_space(description.action_space)):
        raise ConfigError(f"a policy of the kind {description.policy['_target_']} cannot be exported")
    content = description.to_dict() | {"input": _input(description), "output": _output(description)}
    graph = Graph(policy, theta, description)
    graph(graph.example())  # what the policy keeps between calls must be made before a tracer sees it
    WRITERS[out.suffix](out, graph)
    write_atomically(out.with_suffix(".json"), to_json(content, indent=2))


def _input(description: Description) -> dict[str, Any]:
    """What a program gives to the file."""
    box = isinstance(description.observation_space, spaces.Box)
    return {
        "name": "obs",
        "shape": ["n", *input_shape(description)],
        "dtype": str(input_dtype(description)),
        "is": "a batch of observations" + ("" if box else ", each flat, as gymnasium.spaces.flatten makes it"),
    }


def _output(description: Description) -> dict[str, str]:
    """What a program gets from the file."""
    continuous = action_space(description.action_space).factors is None
    of_each = "mean and log std of each normalised action" if continuous else "logits of each factor's options"
    return {"action": "the most likely action, in the environment's unit and shape, clipped", "params": of_each}


class Graph(nn.Module):
    """Observations ``[n, …]`` -> the most likely actions in the environment's form, and parameters ``[n, P]``."""

    theta: Tensor

    def __init__(self, policy: Policy, theta: Tensor, description: Description) -> None:
        super().__init__()
        self.policy, self.description = policy, description
        self.register_buffer("theta", theta)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Input map, network, and the mode in the unit, the shape and the bounds of the action space."""
        policy: Any = self.policy  # `write` has checked that it is Exportable
        space = self.description.observation_space
        if is_picture(space):
            obs = obs.movedim(1 + channels_axis(space), 1).contiguous()
        params = policy.params(self.theta, policy.mapped(obs if is_picture(space) else obs.flatten(1)))
        return self._action(policy.dist.mode(params)), params

    def _action(self, mode: Tensor) -> Tensor:
        space, controls = self.description.action_space, action_space(self.description.action_space)
        if isinstance(space, spaces.Box):
            centre, half_range = (torch.as_tensor(x, dtype=mode.dtype) for x in (controls.centre, controls.half_range))  # type: ignore[attr-defined]
            low, high = (torch.as_tensor(x.ravel(), dtype=mode.dtype) for x in (space.low, space.high))
            action = torch.minimum(torch.maximum(centre + half_range * mode, low), high)
            action = action.round() if np.issubdtype(space.dtype, np.integer) else action
            return action.to(torch.from_numpy(np.zeros(0, space.dtype)).dtype).reshape(-1, *space.shape)
        if isinstance(space, spaces.Discrete):
            return mode[:, 0] + int(space.start)
        if isinstance(space, spaces.MultiDiscrete):
            mode = mode + torch.from_numpy(np.ravel(space.start))
        return mode.reshape(-1, *(space.shape or ()))

    def example(self) -> Tensor:
        """Two observations of zeros."""
        return torch.from_numpy(np.zeros((2, *input_shape(self.description)), input_dtype(self.description)))


def _write_onnx(out: Path, graph: Graph) -> None:
    try:
        import onnx  # noqa: F401 - said before torch's exporter fails without it
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"out={out} needs the package {error.name}: pip install 'trpo_cli[onnx]', "
            f"or use out={out.with_suffix('.npz')}"
        ) from None
    with quiet():
        program = torch.onnx.export(
            graph,
            (graph.example(),),
            dynamo=True,
            verbose=False,
            input_names=["obs"],
            output_names=["action", "params"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    assert program is not None
    write_atomically(out, program.model_proto.SerializeToString())


def _write_pt2(out: Path, graph: Graph) -> None:
    with quiet():
        program = torch.export.export(graph, (graph.example(),), dynamic_shapes=({0: torch.export.Dim("n")},))
        torch.export.save(program, out)


def _write_npz(out: Path, graph: Graph) -> None:
    policy: Any = graph.policy
    inputs, controls = policy.input_map, action_space(graph.description.action_space)
    arrays = {name: piece.numpy() for name, piece in policy.named(graph.theta).items()}
    arrays |= {"input_centre": inputs.centre, "input_half_range": inputs.half_range, "input_clip": inputs.clip}
    if controls.factors is None:
        arrays |= {"action_centre": controls.centre, "action_half_range": controls.half_range}  # type: ignore[attr-defined]
        arrays |= {"action_low": controls.low, "action_high": controls.high}  # type: ignore[attr-defined]
    np.savez(out, **arrays)


WRITERS: dict[str, Callable[[Path, Graph], None]] = {".onnx": _write_onnx, ".pt2": _write_pt2, ".npz": _write_npz}
