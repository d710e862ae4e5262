"""``trpo-report``: what it refuses, and its help."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from run_directories import write_run

from trpo_cli.cli.report import _parser, main


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["figure4", "nowhere", "--out", "out"], ["nowhere", "not a directory"]),
        (["figure4", ".", "--out", "out", "--task", "walker"], ["Figure 4", "walker", "cartpole"]),
        (["table2", ".", "--out", "out"], ["Table 2", "swimmer, hopper, walker"]),
        (["compare", ".", "--out", "out", "--key", "collect/scoer"], ["collect/scoer", "collect/score"]),
        (["figure4", ".", "--out", "a_file"], ["a_file"]),
    ],
)
def test_bad_input_ends_with_one_sentence_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    named: list[str],
):
    write_run(root := tmp_path)
    (root / "a_file").touch()
    monkeypatch.chdir(root)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert all(word in printed.err for word in named) and printed.err.count("\n") == 1 and printed.out == ""


@pytest.mark.parametrize("command", ["report", "train"])
def test_torch_is_not_imported(command: str):
    code = f"import sys, trpo_cli.cli.{command}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_help_says_what_every_report_is_for_and_shows_commands_that_parse(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    page = capsys.readouterr().out
    assert end.value.code == 0
    examples = [line.split("   ")[0].split()[1:] for line in page.splitlines() if line.startswith("  trpo-report ")]
    assert {words[0] for words in examples} == {"figure4", "figure5", "table2", "compare", "theory"}
    for words in examples:
        assert _parser().parse_args(words).report == words[0]
        assert re.search(rf"^ +{words[0]} +\S+ \S+", page, re.MULTILINE)


@pytest.mark.parametrize("report", ["figure4", "figure5", "table1", "table2", "table3", "compare", "theory"])
def test_the_help_of_a_report_names_its_files(report: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main([report, "--help"])
    page = capsys.readouterr().out
    assert f"{report}.csv" in page and "%%" not in page
