"""What the README says is so: every column is explained, every open choice gathered, and its examples train."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from compose import executed, planned

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
METHODS = ["trpo", "natural_gradient", "policy_gradient", "max_kl", "empirical_fim", "rwr", "cem", "cma"]


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("words", [*(f"optimizer={method}" for method in METHODS), "sampler=vine", "critic=mlp"])
def test_every_column_of_a_real_row_is_explained(words: str, tmp_path: Path):
    small = ("iterations=1", "step_limit=20", "path_scale=0.05", f"outputs={tmp_path}")
    row = json.loads((executed(planned(words, *small)) / "progress.jsonl").read_text())
    explained = re.findall(r"`([a-z_/]+)`", section("Columns of `progress.jsonl`"))
    assert row.keys() <= set(explained)


def test_every_choice_that_the_code_owns_to_is_in_the_table():
    owning = {
        path.relative_to(ROOT / "trpo_cli").as_posix()
        for path in (ROOT / "trpo_cli").rglob("*.py")
        if re.search(r"^ +Paper: ", path.read_text(), re.MULTILINE)
    }
    files = set(re.findall(r"`([\w/]+\.py)` \|$", section("Choices the paper leaves open"), re.MULTILINE))
    assert owning and owning <= files
    assert all((ROOT / "trpo_cli" / name).is_file() for name in files)


def run(folder: Path, *words: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "mine"), str(ROOT)])}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_worked_examples_train_and_pass_their_tests(tmp_path: Path):
    blocks = re.findall(r"^```\w+\n# (mine/\S+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    names = ("lander", "quadratic", "normalised", "steepest")  # file, YAML and test of each
    assert sorted(Path(name).stem.removeprefix("test_") for name, _ in blocks) == sorted(3 * names)
    for name, text in blocks:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mine")
    mine = ("-m", "trpo_cli", "--config-dir", "mine/conf", "env=lander", "workers=1")
    run(tmp_path, *mine, "iterations=2", "sampler=vine")
    run(tmp_path, *mine, "iterations=2", "policy=normalised", "name=normalised")
    run(tmp_path, *mine, "iterations=10", "policy=quadratic", "optimizer=steepest")
    directory = tmp_path / "outputs/train/lander/steepest-single/seed0"
    rows = [json.loads(line) for line in (directory / "progress.jsonl").read_text().splitlines()]
    assert all(0.005 < row["update/mean_kl"] < 0.02 for row in rows)
    assert rows[-1]["collect/score"] > 0.9 * rows[0]["collect/score"]  # costs, so less of them
    run(tmp_path, "-c", "from trpo_cli.cli.train import evaluate; evaluate()", f"run={directory}", "episodes=3")
