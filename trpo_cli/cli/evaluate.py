"""Scores a trained policy over whole episodes, stochastic or greedy; what ``trpo-eval`` does."""

import json
import os
import shlex
import sys
from contextlib import suppress
from ctypes.util import find_library
from dataclasses import dataclass, fields
from errno import EISDIR
from itertools import pairwise
from math import sqrt
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trpo_cli.config.build import build
from trpo_cli.config.messages import explain_value, to_word, unknown_key
from trpo_cli.errors import ConfigError, RunError
from trpo_cli.parallel.processes import run
from trpo_cli.parallel.settings import seed_global_generators
from trpo_cli.policies.base import Policy
from trpo_cli.runs.load import read_checkpoint
from trpo_cli.samplers.episodes import Purposes, run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor, solved
from trpo_cli.sims.base import Simulator, Task
from trpo_cli.sims.video import film, to_film
from trpo_cli.training.state import TrainingState

USAGE = "trpo-eval run=outputs/train/cartpole/trpo-single/seed0 episodes=100 greedy=false seed=0 out=score.json"
NUMBERS = ("episodes", "seed")  # keys that tell two evaluations of one policy apart, besides how it plays
AT_ONCE = 256  # episodes played at a time, at most

# What each key of `Request` means.
MEANING = {
    "run": "run directory, finished or not",
    "episodes": "how many whole episodes to play",
    "greedy": "true: the policy's most likely action; false: actions drawn from it, as in training",
    "seed": "of first states and actions; training with the same seed draws other ones",
    "out": "JSON file with score and returns; null: one in the run directory that is named by the other keys",
    "video": "MP4 file for a film of the first episodes",
    "video_episodes": "how many episodes to film",
    "random": "true: play at random, with every action equally likely; only for discrete actions",
    "checkpoint": "last, or best: the one of the best evaluation of a run with eval.every",
}


@dataclass
class Request:
    """The words of ``trpo-eval``; ``MEANING`` says what each is."""

    run: str = MISSING
    episodes: int = 100
    greedy: bool = False
    seed: int = 0
    out: str | None = None
    video: str | None = None
    video_episodes: int = 1
    random: bool = False
    checkpoint: str = "last"

    @property
    def player(self) -> str:
        return "random" if self.random else "greedy" if self.greedy else "stochastic"

    @property
    def json(self) -> Path:
        """The file for the result. Two requests have one file only if they ask for the same evaluation."""
        words = [word for word in (self.player, self.checkpoint) if word not in ("stochastic", "last")]
        words += [f"{key}{getattr(self, key)}" for key in NUMBERS if getattr(self, key) != getattr(Request, key)]
        name = "_".join(["evaluation", *words]) + ".json"
        return Path(self.out) if self.out else Path(self.run) / name

    def require_own_file(self) -> None:
        """Refuse to write over another evaluation: older versions left episodes and seed out of the name."""
        found = self._earlier(self.json)
        for key in NUMBERS:
            if key in found and found[key] != (wanted := getattr(self, key)):
                raise ConfigError(
                    f"{self.json} holds an evaluation with {key}={found[key]}, and this one has {key}={wanted}: "
                    "give it another file with out=…"
                )

    def keep_earlier(self, path: Path, iterations: int) -> None:
        """Give an evaluation in ``path`` after fewer iterations of the run another name: ``…_iterations40.json``."""
        before = self._earlier(path).get("iterations")
        if before not in (None, iterations):
            path.replace(path.with_stem(f"{path.stem}_iterations{before}"))

    def _earlier(self, path: Path) -> dict[str, Any]:
        """What the file holds already; nothing if ``out`` names it, which is written over."""
        if not self.out:
            with suppress(OSError, ValueError, TypeError):  # none, or a damaged one
                return dict(json.loads(path.read_text(encoding="utf-8")))
        return {}


def usage() -> str:
    """What ``trpo-eval --help`` prints."""
    defaults = {field.name: "" if field.default == MISSING else field.default for field in fields(Request)}
    width = max(len(f"{name}={to_word(value)}") for name, value in defaults.items()) + 2
    keys = [f"  {f'{name}={to_word(value)}':{width}}{MEANING[name]}" for name, value in defaults.items()]
    return HELP.format(keys="\n".join(keys))


HELP = """\
Scores what a run has learnt: plays whole episodes with its last checkpoint, prints their mean return with its
standard error, and writes a JSON file. A run that is still training is not disturbed.

  trpo-eval run=DIRECTORY [key=value …]

Keys, with the values that they have if you do not set them
{keys}

Examples
  trpo-eval run=outputs/train/cartpole/trpo-single/seed0
  trpo-eval run=outputs/train/hopper/trpo-vine/seed0 episodes=20 greedy=true out=hopper.json
  trpo-eval run=outputs/train/hopper/trpo-vine/seed0 episodes=1 video=hopper.mp4

A film of a MuJoCo task needs OpenGL. On Linux no screen is needed: MUJOCO_GL=egl is the default."""


def parse(words: list[str]) -> Request:
    """The request in ``key=value`` words; ConfigError if one cannot be read."""
    known = list(Request.__dataclass_fields__)
    typed = OmegaConf.structured(Request)
    try:
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not key:
                raise ConfigError(f"{word} is not key=value; for example: {USAGE}")
            if key not in known:
                raise ConfigError(f"{unknown_key(key, known)}; for example: {USAGE}")
            typed[key] = None if value == "null" else value
        request: Request = OmegaConf.to_object(typed)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{explain_value(error)}; for example: {USAGE}") from error
    for name in ("episodes", "video_episodes"):
        if getattr(request, name) < 1:
            raise ConfigError(f"{name}={getattr(request, name)} must be at least 1")
    if request.greedy and request.random:
        raise ConfigError("greedy=true and random=true cannot both be set: at random no action is the most likely one")
    if request.seed < 0:
        raise ConfigError(f"seed={request.seed} must be >= 0")
    for name in ("run", "out", "video"):
        if str(getattr(request, name)).startswith("~/"):
            raise ConfigError(f"{name}={getattr(request, name)} must be a path, with $HOME instead of ~")
    return request


def load_trained(run: Path, checkpoint: str = "last") -> tuple[Simulator, Policy, torch.Tensor, DictConfig, int]:
    """Simulator, policy, θ ``[D]``, configuration and iterations done of a run directory."""
    cfg = OmegaConf.load(_require_run(run))
    if not isinstance(cfg, DictConfig) or "step_limit" not in cfg:
        raise ConfigError(
            f"run={run} is from an older version of trpo_cli or damaged: rewrite it with "
            f"scripts/rewrite_runs {shlex.quote(str(run))}"
        )
    state = TrainingState.from_dict(read_checkpoint(run, checkpoint))
    sim, network = build(cfg.env, "env"), build(cfg.policy, "policy")
    policy = network.build(sim.obs_shape, sim.action_space).with_input_map(state.input_map)
    return sim, policy, state.learnt, cfg, state.iteration


def _require_run(run: Path) -> Path:
    """The run's configuration file."""
    path = run / ".hydra" / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"run={run} is not a run directory: it has no .hydra/config.yaml")
    return path


def play(
    sim: Simulator, policy: Policy, theta: torch.Tensor, request: Request, limit: int, lanes: range
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Returns, lengths and successes of the episodes ``lanes``, from first states and noise that training never draws.

    limit: the largest number of steps of an episode
    """
    actor, purposes = PolicyActor(policy, theta, request.greedy), Purposes("evaluation_start", "evaluation")
    roll = run_episodes(Task(sim, limit), actor, Draw(request.seed), lanes, "rewards", purposes)
    assert roll.success is not None
    return roll.rewards.sum(0), roll.lengths, roll.success


def evaluate(request: Request) -> dict[str, Any]:
    """Run the episodes, film the first ones if asked, and return the content of the JSON file."""
    sim, policy, theta, cfg, iterations = load_trained(Path(request.run), request.checkpoint)
    if request.random:
        theta = _chance(policy)
    limit = int(cfg.step_limit)
    parts, n_filmed = [], 0
    if request.video:
        drawn = to_film(Path(request.video), sim)
        n_filmed = min(request.video_episodes, request.episodes)
        with film(Path(request.video), drawn) as filmed:
            for lane in range(n_filmed):
                parts.append(play(filmed, policy, theta, request, limit, range(lane, lane + 1)))
    starts = [*range(n_filmed, request.episodes, min(AT_ONCE, sim.max_lanes)), request.episodes]
    parts += [play(sim, policy, theta, request, limit, range(*lanes)) for lanes in pairwise(starts)]
    returns, lengths, success = (np.concatenate(column) for column in zip(*parts, strict=True))
    return {
        "run": request.run,
        "iterations": iterations,
        "episodes": request.episodes,
        "checkpoint": request.checkpoint,
        "greedy": request.greedy,
        "random": request.random,
        "seed": request.seed,
    } | _summary(returns, lengths, success, limit)


def _chance(policy: Policy) -> torch.Tensor:
    """The θ under which every action of every factor is equally likely: all logits zero."""
    if policy.dist.n_actions is None:
        raise ConfigError("random=true needs discrete actions, and the actions of this task are continuous")
    return torch.zeros_like(policy.initial(np.random.default_rng(0)))


def _summary(
    returns: NDArray[np.float64], lengths: NDArray[np.intp], success: NDArray[np.float64], limit: int
) -> dict[str, Any]:
    """Means over the episodes, and their standard error, which is None for a single episode.

    The fraction of solved episodes is there if the environment tells it.
    """
    n = len(returns)
    error = float(returns.std(ddof=1) / sqrt(n)) if n > 1 else None
    return {
        "return_mean": float(returns.mean()),
        "return_standard_error": error,
        "score": float(returns.mean()) / limit,
        "score_standard_error": None if error is None else error / limit,
        "length_mean": float(lengths.mean()),
        **solved(success, "success_fraction"),
        "returns": returns.tolist(),
    }


def main(words: list[str]) -> None:
    """Evaluate, print one line, write the JSON file."""
    request = parse(words)
    if request.video and sys.platform == "linux":
        # MuJoCo reads this when it is imported. The import fails if the library that it names is missing.
        os.environ.setdefault("MUJOCO_GL", "egl" if find_library("EGL") else "disabled")
    torch.set_num_threads(1)
    _require_run(Path(request.run))
    request.require_own_file()
    for path in (request.json, Path(request.video or request.json)):
        _require_writable(path)
    if status := run(1, lambda group: _report(request)):
        raise SystemExit(status)


def _report(request: Request) -> int:
    """Evaluate in a worker of its own, print one line, write the JSON file; returns the exit status."""
    out = request.json.absolute()  # an environment may change the working directory
    seed_global_generators(request.seed)
    result = evaluate(request)
    try:
        request.keep_earlier(out, result["iterations"])
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write to {request.json}: {error.strerror}") from error
    spread = "" if result["return_standard_error"] is None else f" ± {result['return_standard_error']:.4g}"
    print(
        f"return {result['return_mean']:.6g}{spread} "
        f"(mean ± standard error of {result['episodes']} {request.player} episodes), "
        f"score {result['score']:.4g}, length {result['length_mean']:.1f}; written to {request.json}"
        + (f", film to {request.video}" if request.video else "")
    )
    return 0


def _require_writable(path: Path) -> None:
    """Raise RunError, before anything is simulated, if no file of this name can be written."""
    try:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise RunError(f"cannot write to {path}: {error.strerror}") from error
