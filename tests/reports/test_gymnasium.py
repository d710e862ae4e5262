"""The benchmark's report: from run directories and controls to table, CSV and figures; earlier rows stay."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from run_directories import write_run

from trpo_cli.cli.report import main
from trpo_cli.reports.gymnasium import HEADERS, gymnasium_id


def benchmark_run(root: Path, seed: int, greedy: float, finished: bool = True) -> Path:
    directory = write_run(root, "hopper_v5", "trpo-single-mlp", seed, scores=[1.0, 2.0], finished=finished)
    path = directory / ".hydra/config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"env": {"model": "hopper.xml"}}))
    lines = [json.loads(line) for line in (directory / "progress.jsonl").read_text().splitlines()]
    rows = [line | {"collect/episode_return": None if i == 0 else 50.0} for i, line in enumerate(lines)]
    (directory / "progress.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, score in (("evaluation_greedy.json", greedy), ("evaluation.json", greedy - 5)):
        (directory / name).write_text(json.dumps({"return_mean": score, "iterations": 2}))
    return directory


def control(root: Path, seed: int, greedy: float, algorithm: str = "trpo", package: str = "sb3_contrib") -> None:
    directory = root / f"controls/{algorithm}/seed{seed}"
    directory.mkdir(parents=True)
    content = {"env": "Hopper-v5", "algorithm": algorithm, "implementation": package, "seed": seed, "steps": 1000}
    scores = {"returns_greedy": [greedy - 1, greedy + 1], "returns_stochastic": [0.0, 1.0], "wall_s": 600.0}
    curve = [[i, float(i)] for i in range(1, 301)]
    (directory / "control.json").write_text(json.dumps(content | scores | {"curve": curve}))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_small_returns_keep_four_digits(tmp_path: Path):
    benchmark_run(tmp_path, 0, 8.61234e-4)
    assert main(["gymnasium", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert read(tmp_path / "out/benchmark.csv")[0]["return_greedy"] == "0.0008612"


def test_ours_stands_beside_the_controls(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for seed, greedy in enumerate((100.0, 200.0, 300.0, 400.0)):
        benchmark_run(tmp_path, seed, greedy)
    benchmark_run(tmp_path, 9, 1e6, finished=False)  # not finished: it does not count
    for seed, greedy in enumerate((250.0, 90.0)):
        control(tmp_path, seed, greedy)
    assert main(["gymnasium", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    table = capsys.readouterr().out
    ours, theirs = (line.split("|") for line in table.splitlines()[-5:-3])
    assert [cell.strip() for cell in ours[1:6]] == ["Hopper-v5", "1K", "trpo_cli TRPO", "4", "250"]
    assert [cell.strip() for cell in theirs[3:6]] == ["sb3-contrib TRPO", "2", "170"]
    assert theirs[11].strip() == "0.75"  # of eight pairs ours is ahead in six
    rows = read(tmp_path / "out/benchmark.csv")
    assert list(rows[0]) == HEADERS and len(rows) == 6
    assert {row["return_greedy"] for row in rows if row["implementation"] == "sb3_contrib"} == {"250.0", "90.0"}
    curves = read(tmp_path / "out/curves.csv")
    assert sum(row["implementation"] == "trpo_cli" for row in curves) == 4  # the rows in which an episode has ended
    assert 80 <= sum(row["implementation"] == "sb3_contrib" for row in curves) <= 100
    assert all((tmp_path / "out" / name).stat().st_size for name in ("benchmark.png", "profile.png", "table.md"))


def test_rows_that_stand_there_stay_until_a_run_replaces_them(tmp_path: Path):
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "out"
    benchmark_run(first, 0, 100.0)
    control(first, 0, 50.0, "ppo", "stable_baselines3")
    assert main(["gymnasium", str(first), "--out", str(out)]) == 0
    benchmark_run(second, 0, 300.0)
    benchmark_run(second, 1, 400.0)
    assert main(["gymnasium", str(second), "--out", str(out)]) == 0
    scores = [(r["implementation"], r["seed"], float(r["return_greedy"])) for r in read(out / "benchmark.csv")]
    assert scores == [("stable_baselines3", "0", 50.0), ("trpo_cli", "0", 300.0), ("trpo_cli", "1", 400.0)]
    steps = [float(r["steps"]) for r in read(out / "curves.csv") if r["implementation"] == "stable_baselines3"]
    assert np.all(np.diff(steps) > 0) and steps[-1] == 300


def test_without_a_result_one_sentence_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["gymnasium", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no finished run that trpo-eval has scored, and no control" in capsys.readouterr().err


def test_what_does_not_belong_there_is_left_out_or_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    directory = benchmark_run(tmp_path / "a", 0, 100.0)
    stale = benchmark_run(tmp_path / "a", 1, 200.0)
    (stale / "evaluation.json").write_text(json.dumps({"return_mean": 1.0, "iterations": 1}))
    directory.parent.parent.joinpath("cem-single").mkdir()
    assert main(["gymnasium", str(tmp_path / "a"), "--out", str(tmp_path / "out")]) == 0
    assert [row["seed"] for row in read(tmp_path / "out/benchmark.csv")] == ["0"]
    benchmark_run(tmp_path / "b", 0, 100.0)
    assert main(["gymnasium", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "are the same method, task and seed" in capsys.readouterr().err
    assert main(["gymnasium", str(tmp_path / "no"), "--out", str(tmp_path / "out")]) == 2
    assert "is not a directory" in capsys.readouterr().err
    control(tmp_path / "c", 0, 1.0, "sac", "other")
    assert main(["gymnasium", str(tmp_path / "c"), "--out", str(tmp_path / "c")]) == 0
    (tmp_path / "c/controls/sac/seed0/control.json").write_text('{"env": "Hopper-v5"}')
    assert main(["gymnasium", str(tmp_path / "c"), "--out", str(tmp_path / "c")]) == 2
    assert "control.json has no algorithm: remove it" in capsys.readouterr().err


def test_names_are_gymnasiums():
    names = {"hopper_v5": "Hopper-v5", "walker2d_v5": "Walker2d-v5", "half_cheetah_v5": "HalfCheetah-v5"}
    names |= {"inverted_double_pendulum_v5": "InvertedDoublePendulum-v5", "CartPole-v1": "CartPole-v1"}
    assert {task: gymnasium_id(task) for task in names} == names
