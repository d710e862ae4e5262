"""Atari as a user runs it: single path and vine trained, evaluated, and drawn into Figure 5 and Tables 1 and 3."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from compose import executed, planned

from trpo_cli.cli.evaluate import Request, evaluate, parse
from trpo_cli.cli.report import main as report
from trpo_cli.errors import ConfigError
from trpo_cli.parallel.group import Group
from trpo_cli.reports.table1 import PAPER
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.vine import Vine

SHORT = ("step_limit=150", "iterations=2", "name=figure5")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directories of Pong, both samplers, with the evaluations that Table 1 reads."""
    outputs = tmp_path_factory.mktemp("outputs")
    single = ("env=atari/pong", "sampler.steps_per_iteration=300", *SHORT, f"outputs={outputs}")
    vine = (
        "env=atari/pong",
        "sampler=vine",
        "sampler.trunk_steps=120",
        "sampler.steps_per_iteration=360",
        "sampler.branch_length=5",
        *SHORT,
        f"outputs={outputs}",
    )
    place = executed(planned(*single))
    executed(planned(*vine))
    for random in (False, True):
        request = Request(run=str(place), episodes=3, random=random)
        request.json.write_text(json.dumps(evaluate(request)))
    return outputs / "figure5"


def rows(place: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (place / "progress.jsonl").read_text().splitlines()]


def test_budgets_of_steps_are_kept_and_the_papers_network_is_trained(runs: Path):
    place = runs / "atari/pong/trpo-single/seed0"
    for row in rows(place):
        assert row["collect/sim_steps"] >= 300 and row["update/mean_kl"] <= 0.01 and row["update/accepted"]
    assert json.loads((place / "run.json").read_text())["n_parameters"] == 33_500
    for row in rows(runs / "atari/pong/trpo-vine/seed0"):
        trunk_steps = row["collect/sim_steps"] - row["collect/branch_steps"]
        assert trunk_steps >= 120 and row["collect/n_states"] == (360 - trunk_steps) // (4 * 5)


def test_a_vine_tries_uniform_actions_and_weighs_them_by_q():
    plan = planned("env=atari/pong", "sampler=vine", "sampler.trunk_steps=30", "sampler.branch_length=3", *SHORT)
    assert isinstance(plan.sampler, Vine) and plan.sampler.proposal == "uniform"
    short = planned(
        "env=atari/pong",
        "sampler=vine",
        "sampler.trunk_steps=30",
        "sampler.branch_length=3",
        "sampler.steps_per_iteration=null",
        "sampler.n_states=20",
        "step_limit=30",
    )
    theta = short.policy.initial(Draw(0).generator("initial_policy")) * 30
    batch, _, _ = short.sampler(short.task, short.policy, theta, Draw(0), Group())
    np.testing.assert_allclose(batch.log_q, -np.log(18), rtol=1e-6)
    assert batch.estimator == "self_normalised" and batch.actions.shape == (20, 4, 3)


def test_figure_5_and_tables_1_and_3_are_drawn_from_run_directories(runs: Path, tmp_path: Path):
    for name in ("figure5", "table1", "table3"):
        assert report([name, str(runs), "--out", str(tmp_path)]) == 0
    points = list(csv.DictReader((tmp_path / "figure5.csv").read_text().splitlines()))
    assert list(points[0]) == ["game", "sampler", "iteration", "sim_steps", "score"]
    assert [(p["game"], p["sampler"], p["iteration"]) for p in points] == [
        ("pong", s, i) for s in ("single_path", "vine") for i in "01"
    ]
    assert float(points[0]["score"]) == rows(runs / "atari/pong/trpo-single/seed0")[0]["collect/episode_return"]
    assert (tmp_path / "figure5.png").stat().st_size > 20_000
    assert "unfinished: 2 of 500" in (tmp_path / "figure5.md").read_text()  # of the paper's, not of those asked for
    table1 = {row["row"]: row for row in csv.DictReader((tmp_path / "table1.csv").read_text().splitlines())}
    assert [float(table1["Random"][g]) for g in ("pong", "qbert")] == [-20.4, 157] and len(PAPER) == 6
    assert (
        table1["TRPO, single path, ours, iterations"]["pong"] == "2" and table1["Random, ours, episodes"]["pong"] == "3"
    )
    assert table1["TRPO, vine, ours"]["pong"] == ""
    table3 = {row["row"]: row for row in csv.DictReader((tmp_path / "table3.csv").read_text().splitlines())}
    assert table3["Total num. policy params"]["pong"] == "33500"
    assert table3["SP: policy iter."]["configured"] == "2" and table3["Vine: rollouts per state"]["configured"] == "4"


def test_reports_of_atari_refuse_other_runs_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    executed(planned("iterations=1", "sampler.n_paths=4", "step_limit=5", f"outputs={tmp_path}"))
    assert report(["figure5", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no run is TRPO on a game of Figure 5" in capsys.readouterr().err


def test_chance_plays_every_action_alike(runs: Path, tmp_path: Path):
    found = json.loads((runs / "atari/pong/trpo-single/seed0/evaluation_random_episodes3.json").read_text())
    assert found["random"] and found["episodes"] == 3
    with pytest.raises(ConfigError, match="greedy=true and random=true cannot both"):
        parse([f"run={runs}", "greedy=true", "random=true"])
    place = executed(planned("iterations=1", "sampler.n_paths=4", "step_limit=5", f"outputs={tmp_path}"))
    with pytest.raises(ConfigError, match="random=true needs discrete actions"):
        evaluate(Request(run=str(place), random=True))
