"""Laws of the commands as functions, and the examples of the README for them."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

import trpo_cli
from trpo_cli.errors import ConfigError

SMALL = ("iterations=2", "sampler.n_paths=4", "step_limit=20", "workers=1")


def test_a_run_is_trained_evaluated_and_exported(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    words = [*SMALL, f"outputs={tmp_path}", "name=1.10"]
    run = trpo_cli.train(words)
    assert run == tmp_path / "1.10/cartpole/trpo-single/seed0"
    assert json.loads((run / "run.json").read_text())["command"].startswith("trpo-train iterations=2")
    rows = (run / "progress.jsonl").read_bytes()
    assert trpo_cli.train(words) == run and (run / "progress.jsonl").read_bytes() == rows
    assert signal.getsignal(signal.SIGINT) is before
    result = trpo_cli.evaluate(run, episodes=3, greedy=True)
    assert len(result["returns"]) == 3 and result["greedy"]
    trpo_cli.export(run, tmp_path / "policy.npz")
    assert (tmp_path / "policy.json").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["env=cartpol"], "did you mean env=cartpole"),
        (["iteration=3"], "did you mean iterations"),
        (["iterations=0"], "iterations=0 must be at least 1"),
        (["iterations=1,2"], "iterations has several values"),
    ],
)
def test_bad_words_are_a_value_error_of_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        trpo_cli.train(words)


def test_an_unknown_word_of_an_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"episode does not exist; choose among checkpoint, episodes, greedy"):
        trpo_cli.evaluate(tmp_path, episode=3)


def test_the_examples_of_the_readme_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = text.partition("## From Python")[2].partition("\n## ")[0]
    commands, loop = (block.partition("```")[0] for block in section.split("```python\n")[1:])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(commands.replace("total_steps=20000", "total_steps=2000"), names)
    assert Path("cartpole.npz").is_file()
    exec(loop.replace("ITERATIONS, SEED = 10, 0", "ITERATIONS, SEED = 3, 0"), {})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-3:]]
    assert [row[0] for row in rows] == ["0", "1", "2"] and all(float(row[2]) <= 0.01 for row in rows)


def test_one_word_instead_of_a_list_is_refused():
    with pytest.raises(ConfigError, match=r"^overrides='env=hopper' must be a list of words: trpo_cli\.train\(\["):
        trpo_cli.train("env=hopper")
