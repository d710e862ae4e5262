"""A trained policy from a run directory, or from a file that ``trpo-export`` wrote. No simulator is made."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.errors import ConfigError, RunWarning, require
from trpo_cli.policies.base import InputMap, Policy
from trpo_cli.policies.distributions import distribution_for
from trpo_cli.runs.checkpoint import BEST, CHECKPOINT, PREVIOUS, BrokenCheckpointError, load_checkpoint
from trpo_cli.runs.directory import CONTINUED, require_format
from trpo_cli.runs.files import DESCRIPTION, PROGRESS, read_json
from trpo_cli.runs.trained import Description, Params, TrainedPolicy, input_dtype, input_shape, quiet, read_description
from trpo_cli.sims.gymnasium_spaces import action_space, channels_axis, is_picture, shape_seen
from trpo_cli.sims.spaces import from_json

CHECKPOINTS = {"last": (CHECKPOINT, PREVIOUS), "best": (BEST,)}


def load(path: str | Path, seed: int | None = None, checkpoint: str = "last") -> TrainedPolicy:
    """A policy to act with.

    path: a run directory, finished or not, or a file that ``trpo-export`` wrote
    checkpoint: of a run directory: last, or best, the one of the best evaluation (``eval.every``)
    seed: of the actions that ``predict(obs, deterministic=False)`` draws; None: another one each time
    Raises ValueError, with one sentence, if no policy can be read there.
    """
    path = Path(path)
    if path.is_dir():
        description, policy, theta = read_run(path, checkpoint)
        return TrainedPolicy(description, policy.dist, _torch_params(policy, theta), seed)
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: give a run directory, or a file that trpo-export wrote")
    if path.suffix not in READERS:
        raise ConfigError(f"{path} is no exported policy: its name would end in {', '.join(READERS)}")
    description = read_description(path)
    dist = distribution_for(action_space(description.action_space))
    try:
        params = READERS[path.suffix](path, description)
        params(np.zeros((1, *shape_seen(description.observation_space)), _seen_dtype(description)))
    except ConfigError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise ConfigError(
            f"{path} is damaged, or belongs to another description ({reason}); export it again"
        ) from error
    return TrainedPolicy(description, dist, params, seed)


def _seen_dtype(description: Description) -> type[np.generic]:
    return np.uint8 if is_picture(description.observation_space) else np.float64


def _as_exported(obs: NDArray[Any], description: Description) -> NDArray[Any]:
    """Observations as the policy sees them ``[n, …]`` in the form that the file's graph takes."""
    space = description.observation_space
    if is_picture(space):
        return np.ascontiguousarray(np.moveaxis(obs, 1, 1 + channels_axis(space)))
    return obs.reshape(len(obs), *input_shape(description)).astype(input_dtype(description))


def read_run(run: Path, checkpoint: str = "last") -> tuple[Description, Policy, Tensor]:
    """Description, policy with its input map, and θ ``[D]`` of a run directory."""
    info, cfg = read_description_and_config(run, str(run))
    told = told_spaces(info)
    if told is None:
        raise ConfigError(
            f"{run} is from an older version of trpo_cli: its {DESCRIPTION} does not tell the environment's "
            "spaces; train it for one more iteration, and it will"
        )
    state = read_checkpoint(run, checkpoint)
    learnt: Tensor = state.get("average", state["theta"])
    observations, actions = (from_json(told[name]) for name in ("observation", "action"))
    description = Description(observations, actions, cfg["policy"], _about(run, info, cfg, state))
    return description, description.build().with_input_map(InputMap.from_dict(state["input_map"])), learnt


def read_description_and_config(run: Path, named: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Content of ``run.json`` and the configuration of a run directory, which messages call ``named``."""
    info, path = read_json(run / DESCRIPTION), run / ".hydra" / "config.yaml"
    if info is None or not path.is_file():
        raise ConfigError(f"{named} is no run directory: it has no {DESCRIPTION} or no .hydra/config.yaml")
    require_format(run / DESCRIPTION, info.get("format"))
    return info, yaml.safe_load(path.read_text(encoding="utf-8"))


def told_spaces(info: Mapping[str, Any]) -> dict[str, Any] | None:
    """The spaces of observations and actions in ``run.json``; None if an older version wrote it and nobody since."""
    told = [part["spaces"] for part in (info, *info.get(CONTINUED, [])) if "spaces" in part]
    return told[-1] if told else None


def read_checkpoint(run: Path, which: str = "last") -> dict[str, Any]:
    """The newest checkpoint of a run that can be read, or the best one; ConfigError if there is none."""
    require(which in CHECKPOINTS, "checkpoint", which, f"one of {', '.join(CHECKPOINTS)}")
    if which == "best" and not (run / BEST).exists():
        raise ConfigError(f"run={run} has no {BEST}: it is kept by runs with eval.every=…; leave checkpoint=best out")
    damaged = []
    for name in CHECKPOINTS[which]:
        if (run / name).exists():
            try:
                saved = load_checkpoint(run / name)
            except BrokenCheckpointError:
                damaged.append(name)
                continue
            if damaged:
                sentence = f"{run / damaged[0]} is damaged; the state after {saved['iteration']} iterations is used"
                warnings.warn(sentence, RunWarning, stacklevel=2)
            return saved
    if damaged:
        raise ConfigError(f"run={run} has no checkpoint that can be read: {' and '.join(damaged)} damaged")
    raise ConfigError(f"run={run} has no checkpoint: train it first")


def _about(run: Path, info: Mapping[str, Any], cfg: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """Where a policy comes from."""
    row = _row(run, state["iteration"] - 1)
    return {
        "env": {"option": info.get("options", {}).get("env"), **cfg["env"], "step_limit": cfg["step_limit"]},
        "gamma": cfg["sampler"]["gamma"],
        "iterations": state["iteration"],
        "sim_steps": state["sim_steps_total"],
        "episode_return": row.get("collect/episode_return"),
        "score": row.get("collect/score"),
        "eval_score": row.get("eval/score"),
        "seed": cfg["seed"],
        "command": info["command"],
        "commit": info["commit"],
        "versions": info["versions"],
    }


def _row(run: Path, iteration: int) -> dict[str, Any]:
    """The row of an iteration, whose batch the policy learnt from last; nothing if it is not there."""
    lines = (run / PROGRESS).read_bytes().splitlines(keepends=True)
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return next((row for row in rows if row["iteration"] == iteration), {})


def _torch_params(policy: Policy, theta: Tensor) -> Params:
    @torch.inference_mode()
    def params(obs: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = policy.params(theta, policy.tensor(obs)).numpy()
        return found

    return params


def _from_npz(path: Path, description: Description) -> Params:
    """θ is the pieces in the order of the file, which are all arrays but the input map's."""
    policy = description.build()
    with path.open("rb") as file, np.load(file) as arrays:
        pieces = {name: arrays[name] for name in arrays.files}
    maps = [pieces.pop(name) for name in ("input_centre", "input_half_range", "input_clip")]
    for name in ("action_centre", "action_half_range", "action_low", "action_high"):
        pieces.pop(name, None)
    theta = torch.from_numpy(np.concatenate([piece.ravel() for piece in pieces.values()]))
    if len(theta) != policy.n_parameters:
        raise ConfigError(f"{path} holds {len(theta)} parameters, and its description needs {policy.n_parameters}")
    policy = policy.with_input_map(replace(policy.input_map, centre=maps[0], half_range=maps[1], clip=float(maps[2])))
    return _torch_params(policy, theta)


def _from_onnx(path: Path, description: Description) -> Params:
    try:
        from onnxruntime import InferenceSession
    except ImportError:
        raise ConfigError(f"{path} needs the package onnxruntime: pip install onnxruntime") from None
    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def params(obs: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = session.run(["params"], {"obs": _as_exported(obs, description)})[0]
        return found

    return params


def _from_pt2(path: Path, description: Description) -> Params:
    with quiet():
        module = torch.export.load(path).module()

    @torch.inference_mode()
    def params(obs: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = module(torch.from_numpy(_as_exported(obs, description)))[1].numpy()
        return found

    return params


READERS = {".npz": _from_npz, ".onnx": _from_onnx, ".pt2": _from_pt2}
