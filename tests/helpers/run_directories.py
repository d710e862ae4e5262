"""Run directories as a report reads them, written without a run."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

MakeRun = Callable[..., Path]

SAMPLERS = {
    "single": {"gamma": 0.99, "n_paths": 64, "steps_per_iteration": None},
    "vine": {"gamma": 0.99, "n_trunks": 2, "n_states": 125, "n_actions": 4, "branch_length": 100},
}


def write_run(
    root: Path,
    env: str = "cartpole",
    method: str = "trpo-single",
    seed: int = 0,
    scores: Sequence[float] = (1.0, 2.0, 3.0),
    finished: bool = True,
    name: str = "fig4",
    iterations: int | None = None,
    options: dict[str, str] | None = None,
    **optimizer: Any,
) -> Path:
    """Write one run directory below ``root / "outputs"`` and return it.

    options: as in ``run.json``; an older version's has none. optimizer: its settings
    """
    directory = root / "outputs" / name / env / method / f"seed{seed}"
    (directory / ".hydra").mkdir(parents=True)
    config = {
        "seed": seed,
        "name": name,
        "iterations": len(scores) if iterations is None else iterations,
        "workers": seed + 1,
        "device": ("cpu", "cuda")[seed % 2],
    }
    identity = {
        "seed": seed,
        "step_limit": 1000,
        "env": {"_target_": "trpo_cli.sims.X"},
        "policy": {"hidden_sizes": [50, 50]},
        "sampler": SAMPLERS[method.split("-")[1]],
        "optimizer": {"kl_limit": 0.01, "kl_slack": 1.0, **optimizer},
    }
    (directory / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    info = {"n_parameters": 3356, "obs_dim": 11, "state_dim": 12, "action_dim": 3}
    machine = {"workers": seed + 1, "processor": "Some CPU", "cores": 2}
    about = {"format": 2, **info, **machine, **({"options": options} if options else {}), "identity": identity}
    (directory / "run.json").write_text(json.dumps(about))
    rows = [
        {
            "iteration": i,
            "sim_steps_total": 500 * (i + 1),
            "time_s": 60.0 * (i + 1),
            "collect/score": score,
            "collect/episode_return": None if score is None else 1000 * score,
            "collect/sim_steps": 500,
            "collect/n_episodes": 64,
            "update/mean_kl": 0.009 + 0.0001 * i,
        }
        for i, score in enumerate(scores)
    ]
    (directory / "progress.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        (directory / "done.json").write_text("{}")
    return directory


def only(found: Sequence[Any]) -> Any:
    assert len(found) == 1
    return found[0]


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))
