"""What stands under outputs/paper is what the reports make of the runs that stand there too."""

import json
import re
import shlex
from pathlib import Path

import pytest
from compose import planned

from trpo_cli.cli.report import main
from trpo_cli.errors import ConfigError
from trpo_cli.runs.directory import require_same_run

PAPER = Path(__file__).parents[2] / "outputs/paper"


@pytest.mark.parametrize(
    ("words", "runs", "where", "files"),
    [
        (["figure4", "--against", "iterations"], "figure4", ".", ("figure4.csv", "figure4.md")),
        *[
            (["figure4", "--against", "iterations"], name, name, ("figure4.csv", "figure4.md"))
            for name in ("figure4_full", "root_velocity", "gymnasium_step", "rk4", "penalties")
        ],
        (["figure5"], "figure5", ".", ("figure5.csv", "figure5.md")),
        *[(["figure5"], name, name, ("figure5.csv", "figure5.md")) for name in ("frames", "branch18")],
        (["table1"], ".", ".", ("table1.csv", "table1.md")),
        (["table2"], "table2", ".", ("table2.csv", "table2.md")),
        (["table3"], "figure5", ".", ("table3.csv", "table3.md")),
    ],
)
def test_the_published_numbers_are_those_of_the_published_runs(
    words: list[str], runs: str, where: str, files: tuple[str, ...], tmp_path: Path
):
    target, *options = words
    assert main([target, str(PAPER / "runs" / runs), "--out", str(tmp_path), *options]) == 0
    for name in files:
        assert (tmp_path / name).read_text() == (PAPER / where / name).read_text()


CURVES = sorted({path.parents[1] for path in PAPER.glob("runs/**/run.json")})


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: str(curve.relative_to(PAPER / "runs")))
def test_a_published_run_can_be_continued_by_its_command(curve: Path):
    run = min(curve.glob("seed*"))
    description = json.loads((run / "run.json").read_text())
    words = shlex.split(description["command"])[1:]
    plan = planned(*(word for word in words if not word.startswith("device=")))  # on any machine
    assert require_same_run(run, json.loads(json.dumps(plan.identity))) == description
    with pytest.raises(ConfigError, match="holds a run with seed="):
        require_same_run(run, json.loads(json.dumps(plan.identity | {"seed": 99})))


def test_nothing_published_names_a_place_on_the_machine_that_made_it():
    texts = (path for path in PAPER.rglob("*") if path.suffix in {".json", ".jsonl", ".yaml", ".csv", ".md"})
    named = [
        str(path.relative_to(PAPER)) for path in texts if re.search(r"[\"' ]/(tmp|work|home|root)/", path.read_text())
    ]
    assert not named
