"""Every method of Figure 4 learns: on a short cart-pole with a tiny batch, and the same rows from the same seed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compose import executed, options, planned

METHODS = {  # the same task, and a batch of a few thousand steps at most
    "trpo": ("sampler.n_paths=24",),
    "vine": ("optimizer=trpo", "sampler=vine", "sampler.n_trunks=8", "sampler.n_states=60", "sampler.branch_length=20"),
    "empirical_fim": ("sampler.n_paths=24",),
    "natural_gradient": ("sampler.n_paths=24", "optimizer.penalty=0.3"),
    "policy_gradient": ("sampler.n_paths=24", "optimizer.l2_limit=0.05"),
    "max_kl": ("sampler.n_paths=24", "optimizer.kl_limit=0.03"),
    "rwr": ("sampler.n_paths=60",),
    "cem": ("optimizer.population=40",),
    "cma": ("optimizer.population=40", "optimizer.initial_std=0.5"),
}
COMMON = ("env=cartpole", "step_limit=100", "workers=1")


def rows(outputs: Path, method: str, *words: str) -> list[dict[str, Any]]:
    chosen = () if method == "vine" else (f"optimizer={method}",)
    directory = executed(planned(*COMMON, *chosen, *METHODS[method], f"outputs={outputs}", *words))
    return [json.loads(line) for line in (directory / "progress.jsonl").read_text().splitlines()]


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if "time" not in key}


@pytest.mark.parametrize("method", METHODS)
def test_it_learns(method: str, tmp_path: Path):
    scores = [row["collect/score"] for row in rows(tmp_path, method, "iterations=15")]
    assert np.isfinite(scores).all() and np.mean(scores[-3:]) > 2 * scores[0] > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_rows_and_another_one_others(method: str, tmp_path: Path):
    first, again, other = (
        [without_times(row) for row in rows(tmp_path / str(i), method, "iterations=3", f"seed={seed}")]
        for i, seed in enumerate((5, 5, 6))
    )
    assert first == again
    assert first[0]["collect/episode_return"] != other[0]["collect/episode_return"]


def test_every_optimizer_has_its_place_here():
    assert sorted(METHODS.keys() - {"vine"}) == options("optimizer")
