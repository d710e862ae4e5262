"""``continue=DIRECTORY``, and a job of a sweep that is run again without -m: one run, in one directory."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from compose import executed, planned
from hydra.core.global_hydra import GlobalHydra

import trpo_cli
from trpo_cli.cli import train as cli
from trpo_cli.cli.continuing import plan_to_continue
from trpo_cli.errors import ConfigError
from trpo_cli.training.run import Plan

TINY = ("iterations=1", "sampler.n_paths=2", "step_limit=20", "workers=1")
PUBLISHED = Path(__file__).parents[2] / "outputs/paper/runs"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a sweep's job."""
    folder = tmp_path_factory.mktemp("sweep")
    words = ("optimizer.kl_limit=0.04", "name='sw/optimizer.kl_limit=0.04'", f"outputs={folder}")
    return executed(planned(*TINY, *words))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it at another place, whose name needs quotes."""
    return shutil.copytree(finished, tmp_path / "moved here")


def continued(run: Path, *words: str) -> Plan:
    return plan_to_continue(str(run), [f"continue={run}", *words], 1)[1]


def test_a_run_goes_on_by_its_own_configuration_wherever_it_lies(finished: Path, run: Path):
    plan = continued(run, "iterations=3", "eval.every=2", "checkpoint_every=5")
    assert executed(plan) == run
    rows = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [0, 1, 2] and "eval/score" in rows[1]
    assert plan.identity["optimizer"]["kl_limit"] == 0.04
    assert rows[0] == json.loads((finished / "progress.jsonl").read_text())
    last = json.loads((run / "run.json").read_text())["continued"][-1]["command"]
    program, *words = shlex.split(last)
    assert program == "trpo-train" and words[0] == f"continue={run}" and continued(run, *words[1:]).directory == run


def test_the_commands_take_it(run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["trpo-train", f"continue={run}", "iterations=2e0"])
    GlobalHydra.instance().clear()
    cli.train()
    longer = f"Make it longer: trpo-train continue='{run}' iterations=4"
    assert longer in capfd.readouterr().out.splitlines()
    assert trpo_cli.train([f"continue={run}", "iterations=3"]) == run
    capfd.readouterr()
    trpo_cli.train([f"continue={run}", "iterations=1", "stop_at=1000"])  # less than is done, and a score far away
    assert f"continue='{run}' iterations=6" in capfd.readouterr().out.splitlines()[1]
    assert len((run / "progress.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("seed=3", "seed cannot change when a run goes on; continue= takes iterations, total_steps, workers, device"),
        ("optimizer=cem", "optimizer cannot change when a run goes on"),
        ("optimizer.kl_limit=1", "optimizer.kl_limit cannot change when a run goes on"),
        ("average_over=0.5", "average_over cannot change when a run goes on"),
        ("name=other", "name cannot change when a run goes on"),
        ("iteration=3", "iteration does not exist; did you mean iterations?"),
        ("iterations=2,3", "iterations has several values, and continue= goes on with one run"),
        ("eval.episodes=3", "eval.episodes would not be used: eval.every is not set"),
        ("env.max_lanes=3", "env.max_lanes cannot change"),
        ("-m", "-m cannot stand beside continue="),
        ("iterations", "iterations is not an override; write key=value"),
    ],
)
def test_what_may_not_change_is_refused_in_a_sentence(word: str, sentence: str, run: Path):
    with pytest.raises(ConfigError, match=f"^{sentence.replace('?', '.')}"):
        continued(run, word)


def test_what_is_no_run_is_refused_in_a_sentence(run: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^continue=\S+ is no run directory: it has no run.json"):
        continued(tmp_path)
    with pytest.raises(ConfigError, match="with \\$HOME instead of ~"):
        continued(Path("~/runs"))
    with pytest.raises(ConfigError, match="continue= stands 2 times"):
        trpo_cli.train([f"continue={run}", f"continue={run}"])
    about = json.loads((run / "run.json").read_text())
    del about["options"]
    (run / "run.json").write_text(json.dumps(about))
    with pytest.raises(ConfigError, match=r"begun by an older version.* go on by its own command: trpo-train"):
        continued(run)


def test_settings_that_came_after_a_run_was_made_do_not_stop_it():
    run = next(path.parent for path in sorted(PUBLISHED.rglob("run.json")) if "options" in path.read_text())
    kept = json.loads((run / "run.json").read_text())["identity"]
    now = json.loads(json.dumps(continued(run, "device=cpu").identity))
    assert {key: now[group][key] for group in ("env", "optimizer") for key in kept[group]} == {
        key: kept[group][key] for group in ("env", "optimizer") for key in kept[group]
    }


def test_the_words_of_a_sweeps_job_are_that_job_and_no_second_run(finished: Path, tmp_path: Path):
    outputs = shutil.copytree(finished.parents[4], tmp_path / "outputs")
    words = (*TINY, "optimizer.kl_limit=0.04", "name=sw", f"outputs={outputs}")
    plan = planned(*words)
    assert plan.directory == outputs / finished.relative_to(finished.parents[4])
    assert plan.config["name"] == "sw/optimizer.kl_limit=0.04"
    new = outputs / "sw/cartpole/trpo-single"
    assert planned(*words, "optimizer.kl_limit=0.05").directory == new / "seed0"
    assert planned(*words, "seed=1").directory == new / "seed1"
    shutil.copytree(outputs / "sw/optimizer.kl_limit=0.04", outputs / "sw/iterations=1")  # which of the two?
    assert planned(*words).directory == new / "seed0"
