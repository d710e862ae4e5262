"""The drawing of Theorem 1 and Algorithm 1."""

from pathlib import Path

import pytest
from run_directories import read_csv

from trpo_cli.cli.report import main
from trpo_cli.reports import theory


def test_theory_draws_and_finds_the_bound_to_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(theory, "N_PAIRS", 40)
    monkeypatch.setattr(theory, "N_PROBLEMS", 1)
    monkeypatch.setattr(theory, "N_ITERATIONS", 2)
    assert main(["theory", "--out", str(tmp_path), "--seed", "3"]) == 0
    assert "Eq. 9 held for 40 of 40 random pairs" in capsys.readouterr().out
    rows = read_csv(tmp_path / "theory.csv")
    assert len(rows) == 40 and all(float(row["improvement"]) >= float(row["bound"]) for row in rows)
    assert (tmp_path / "theory.png").exists()
