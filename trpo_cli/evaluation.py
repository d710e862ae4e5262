"""Scores a trained policy over whole episodes, stochastic or greedy; what ``trpo-eval`` does."""

import json
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trpo_cli.checkpoint import CHECKPOINT, PREVIOUS, BrokenCheckpointError, load_checkpoint
from trpo_cli.config import build, explain_value, unknown_key
from trpo_cli.episodes import run_paths
from trpo_cli.errors import ConfigError, RunError
from trpo_cli.input_range import Network, mapped
from trpo_cli.rollouts import Rollout
from trpo_cli.sims.base import Simulator

USAGE = "trpo-eval run=outputs/train/cartpole/trpo-single/seed0 episodes=100 greedy=false seed=0 out=score.json"


@dataclass
class Request:
    """The words of ``trpo-eval``."""

    run: str = MISSING  # run directory
    episodes: int = 100
    greedy: bool = False  # the distribution's mode in place of a sample
    seed: int = 0  # of the episodes; the run's own seed plays no part
    out: str | None = None  # JSON file; evaluation.json in the run directory where not given


def parse(words: list[str]) -> Request:
    """The request in ``key=value`` words; ConfigError where one cannot be read."""
    known = list(Request.__dataclass_fields__)
    typed = OmegaConf.structured(Request)
    try:
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise ConfigError(f"{word} is no key=value; for example: {USAGE}")
            if key not in known:
                raise ConfigError(f"{unknown_key(key, known)}; for example: {USAGE}")
            typed[key] = None if value == "null" else value
        request: Request = OmegaConf.to_object(typed)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{explain_value(error)}; for example: {USAGE}") from error
    if request.episodes < 1:
        raise ConfigError(f"episodes={request.episodes} must be at least 1")
    if request.seed < 0:
        raise ConfigError(f"seed={request.seed} must be >= 0")
    return request


def trained(run: Path) -> tuple[Simulator, Network, torch.Tensor, DictConfig, int]:
    """Simulator, policy, θ ``[D]``, configuration and iterations done of a run directory."""
    path = run / ".hydra" / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"run={run} is no run directory: it has no .hydra/config.yaml")
    cfg = OmegaConf.load(path)
    assert isinstance(cfg, DictConfig)
    checkpoint = _checkpoint(run)
    state = checkpoint["state"]
    sim, network = build(cfg.env, "env"), build(cfg.policy, "policy")
    policy = network.build(sim.obs_shape, sim.action_space, "cpu")
    policy = mapped(policy, state["input_centre"].numpy(), state["input_half_range"].numpy())
    return sim, policy, state["theta"], cfg, checkpoint["iteration"]


def _checkpoint(run: Path) -> dict[str, Any]:
    for name in (CHECKPOINT, PREVIOUS):
        if (run / name).exists():
            try:
                return load_checkpoint(run / name)
            except BrokenCheckpointError:
                continue
    raise ConfigError(f"run={run} has no checkpoint that can be read: train it first")


def evaluate(request: Request) -> dict[str, Any]:
    """Run the episodes and return what the JSON file says."""
    sim, policy, theta, cfg, iterations = trained(Path(request.run))
    limit = int(cfg.task.step_limit)
    roll: Rollout = run_paths(
        sim, policy, theta, request.seed, 0, range(request.episodes), limit, purpose="evaluation", greedy=request.greedy
    )
    returns = roll.rewards.sum(0)
    n = len(returns)
    error = float(returns.std(ddof=1) / sqrt(n)) if n > 1 else None
    return {
        "run": request.run,
        "iterations": iterations,
        "episodes": n,
        "greedy": request.greedy,
        "seed": request.seed,
        "return_mean": float(returns.mean()),
        "return_standard_error": error,
        "score": float(returns.mean()) / limit,
        "length_mean": float(roll.lengths.mean()),
        "returns": [float(x) for x in np.round(returns, 6)],
    }


def main(words: list[str]) -> None:
    """Evaluate, print one line, write the JSON file."""
    request = parse(words)
    torch.set_num_threads(1)
    result = evaluate(request)
    out = Path(request.out) if request.out else Path(request.run) / "evaluation.json"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise RunError(f"cannot write to {out}: {error.strerror}") from error
    spread = "" if result["return_standard_error"] is None else f" ± {result['return_standard_error']:.4g}"
    how = "greedy" if request.greedy else "stochastic"
    print(
        f"return {result['return_mean']:.6g}{spread} (mean ± standard error of {result['episodes']} {how} episodes), "
        f"score {result['score']:.4g}, length {result['length_mean']:.1f}; written to {out}"
    )
