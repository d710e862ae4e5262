"""What stands under outputs/paper is what the reports make of the runs that stand there too."""

import re
from pathlib import Path

import pytest

from trpo_cli.report import main

PAPER = Path(__file__).parent.parent / "outputs/paper"


@pytest.mark.parametrize(
    ("words", "runs", "where", "files"),
    [
        (["figure4", "--against", "iterations"], "figure4", ".", ("figure4.csv", "figure4.md")),
        (["figure4", "--against", "iterations"], "episodes64", "episodes64", ("figure4.csv", "figure4.md")),
        *[
            (["figure4", "--against", "iterations"], name, name, ("figure4.csv", "figure4.md"))
            for name in ("root_velocity", "gymnasium_step", "rk4", "penalties")
        ],
        (["figure5"], "figure5", ".", ("figure5.csv", "figure5.md")),
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


def test_nothing_published_names_a_place_on_the_machine_that_made_it():
    texts = (path for path in PAPER.rglob("*") if path.suffix in {".json", ".jsonl", ".yaml", ".csv", ".md"})
    named = [
        str(path.relative_to(PAPER)) for path in texts if re.search(r"[\"' ]/(tmp|work|home|root)/", path.read_text())
    ]
    assert not named
