"""Tables 2 and 3, and the table of where curves come from."""

import json
from pathlib import Path

import pytest
from run_directories import MakeRun, only, read_csv

from trpo_cli.cli.report import main
from trpo_cli.reports import table3
from trpo_cli.reports.curves import group_into_curves
from trpo_cli.reports.provenance_table import provenance_table
from trpo_cli.reports.read_runs import find_runs
from trpo_cli.reports.tables import number


@pytest.mark.parametrize(
    ("value", "shown"),
    [(2.0, "2"), (123456789.0, "123456789"), (2.34567, "2.346"), (8.6123e-9, "8.612e-09"), (5.6181e90, "5.618e+90")],
)
def test_a_number_has_all_its_digits_if_it_is_whole_and_not_huge_or_else_four(value: float, shown: str):
    assert number(value) == shown


def test_a_run_continued_elsewhere_names_both_machines_and_times_each_by_itself(make_run: MakeRun):
    directory = make_run(scores=[1.0, 2.0, 3.0, 4.0])
    description = json.loads((directory / "run.json").read_text()) | {
        "command": "trpo-train seed=0",
        "commit": "a" * 40,
    }
    elsewhere = {"iteration": 3, "workers": 16, "cores": 16, "device": "Some GPU", "command": "trpo-train device=cuda"}
    (directory / "run.json").write_text(json.dumps(description | {"continued": [elsewhere]}))
    rows = [json.loads(line) for line in (directory / "progress.jsonl").read_text().splitlines()]
    for row, seconds in zip(rows, (60.0, 120.0, 180.0, 190.0), strict=True):
        row["time_s"] = seconds
    (directory / "progress.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = only(group_into_curves(find_runs([directory])))
    assert [(part.rows, part.info["workers"]) for part in found.runs[0].parts] == [(range(3), 1), (range(3, 4), 16)]
    line = provenance_table([found]).splitlines()[-1]
    assert "`trpo-train`, then `trpo-train device=cuda`" in line and line.count("a" * 10) == 1
    assert "Some CPU, 1 workers, Some CPU, 16 workers and one Some GPU" in line
    assert table3._seconds(found) == "60 / 10" and table3._workers(found) == "1 workers / 16 workers and one Some GPU"
    assert table3._hours_on_many_cores(found) == "0.5 / 1.4"  # 500 · 60 s / 16 and 500 · 10 s


def test_table2_sets_the_paper_beside_settings_and_measurements(make_run: MakeRun, tmp_path: Path):
    make_run("hopper", "trpo-single", scores=[0.0] * 4)
    root = make_run("hopper", "trpo-vine", scores=[0.0] * 2, iterations=200, finished=False).parents[4]
    assert main(["table2", str(root), "--out", str(tmp_path)]) == 0
    rows = {row["row"]: row for row in read_csv(tmp_path / "table2.csv")}

    def hopper(label: str) -> tuple[str, str, str]:
        (row,) = (row for name, row in rows.items() if name.startswith(label))
        return row["hopper: paper"], row["hopper: configured"], row["hopper: measured"]

    assert hopper("State space") == ("12", "–", "12")
    assert hopper("Total num.") == ("4806", "–", "3356")
    assert hopper("SP: sim. steps") == ("1M", "64K", "500")  # 512 / 8 paths of 1000
    assert hopper("Vine: sim. steps") == ("1M", "52K", "500")  # 2 trunks of 1000, 125 · 4 branches of 100
    assert hopper("Vine: Q-values") == ("2500", "500", "–")
    assert hopper("SP: num. path") == ("1000", "64", "64")
    assert hopper("SP: policy iter.") == ("200", "4", "4")
    assert hopper("Vine: policy iter.") == ("200", "200", "2 (unfinished)")
    assert hopper("SP: stepsize") == ("0.01", "0.01", "mean 0.0091, max 0.0093")
    assert hopper("SP: computation time") == ("35", "–", "4")
    assert hopper("Hidden") == ("50", "50, 50", "–")
    assert rows["State space dim. [a]"]["walker: paper"] == "20"
    assert rows["State space dim. [a]"]["walker: measured"] == "–"
    text = (tmp_path / "table2.md").read_text()
    assert "[a] Section 8.1 gives the walker 18" in text and "Some CPU, 2 cores, 1 workers" in text
