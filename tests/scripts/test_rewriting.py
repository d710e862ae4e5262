"""Run directories of format 1 become those of format 2, and go on by the command that is recorded then."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose import planned
from rewriting import main, missing_words, new_words

from trpo_cli.runs.directory import flat, require_same_run

TASK = {"step_limit": 40, "iterations": 200, "gamma": 0.99}  # what the script reads of it, and some more
VINE = {"n_trunks": 32, "n_states": 5000, "n_actions": 4, "branch_length": 7, "proposal": "policy"}
VINE |= {"estimator": "auto", "common_random_numbers": True, "standardise": True}
SINGLE = {"n_paths": 256, "steps_per_iteration": None, "baseline": "time", "standardise": True}


def old_run(folder: Path, command: str, new_command: str, sampler: dict[str, Any], **optimizer: Any) -> Path:
    """A directory of format 1, made from what the new command composes."""
    config = planned(*new_command.split()).config
    kind = {"_target_": config["sampler"]["_target_"], "gamma": 0.99, "step_limit": TASK["step_limit"]}
    own = {key: value for key, value in config["optimizer"].items() if key not in ("fisher_min_states", "damping")}
    groups = {"env": config["env"], "policy": config["policy"], "sampler": kind | sampler, "optimizer": own | optimizer}
    groups = json.loads(json.dumps(groups).replace("Infinity", '"inf"').replace('-"inf"', '"-inf"'))
    (folder / ".hydra").mkdir(parents=True)
    root = {key: config[key] for key in ("seed", "name", "outputs", "workers", "checkpoint_every")}
    old_config = {**root, "iterations": 9, "device": "cuda", "path_scale": 0.125, "task": TASK, **groups}
    (folder / ".hydra/config.yaml").write_text(yaml.safe_dump(old_config))
    part = {"iteration": 3, "command": f"{command} workers=3"}
    description = {"format": 1, "command": command, "continued": [part]}
    identity = {"seed": config["seed"], "env": groups["env"], "task": TASK, **groups}
    (folder / "run.json").write_text(json.dumps({**description, "identity": identity}))
    return folder


def require_continued(run: Path, words: list[str]) -> dict[str, Any]:
    """What run.json says; it is that of the run which ``words`` describe."""
    description = json.loads((run / "run.json").read_text())
    assert description["format"] == 2 and shlex.split(description["command"])[1:] == words
    assert require_same_run(run, json.loads(json.dumps(planned(*words).identity))) == description
    assert sorted(shlex.split(description["continued"][0]["command"])[1:]) == sorted([*words, "workers=3"])
    return description


def test_a_run_from_before_a_setting_says_in_its_command_what_it_did(tmp_path: Path):
    words = "env=hopper sampler=vine scale=laptop seed=3 sampler.n_trunks=32 sampler.n_states=5000"
    old = f"trpo-train {words} task.step_limit=40 task.vine.branch_length=7"
    new = f"{words} step_limit=40 sampler.branch_length=7"
    run = old_run(tmp_path / "seed3", old, new, VINE | {"scale": 0.125})
    assert main([str(tmp_path)]) == 0
    description = require_continued(run, [*new.split(), "optimizer.fisher_min_states=0"])
    identity = description["identity"]
    assert (identity["sampler"]["n_trunks"], identity["sampler"]["n_states"], identity["step_limit"]) == (4, 625, 40)
    assert identity["optimizer"]["damping"] == "identity" and identity["sampler"]["trunk_steps"] is None
    assert not {"scale", "step_limit"} & identity["sampler"].keys() and "task" not in identity
    config = yaml.safe_load((run / ".hydra/config.yaml").read_text())
    assert (config["step_limit"], config["iterations"], config["device"]) == (40, 9, "cuda")
    assert config["sampler"]["n_states"] == 5000 and "task" not in config
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main([str(tmp_path)]) == 0
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_setting_without_effect_is_not_added(tmp_path: Path):
    words = "env=cartpole scale=laptop step_limit=40"
    run = old_run(tmp_path, f"trpo-train {words.replace('step', 'task.step')}", words, SINGLE | {"scale": 0.125})
    assert main([str(tmp_path)]) == 0
    identity = require_continued(run, words.split())["identity"]
    assert "fisher_min_states" not in identity["optimizer"] and identity["sampler"]["n_paths"] == 32
    assert "nonlinearity" not in identity["policy"]


def test_a_run_of_a_task_that_has_a_critic_now_is_one_without(tmp_path: Path):
    recorded = flat(json.loads(json.dumps(planned("env=hopper_v5", "critic=none", "sampler.gamma=0.9").identity)))
    assert missing_words(["env=hopper_v5"], recorded) == ["critic=none", "sampler.gamma=0.9"]


def test_a_search_keeps_its_scaled_population_and_no_sampler(tmp_path: Path):
    words = "env=cartpole optimizer=cem scale=laptop step_limit=40"
    command = f"trpo-train {words.replace('step', 'task.step')}"
    run = old_run(tmp_path, command, words, SINGLE | {"scale": 0.125}, population=32)
    assert main([str(tmp_path)]) == 0
    identity = require_continued(run, words.split())["identity"]
    assert identity["optimizer"]["population"] == 32 and "sampler" not in identity


def test_a_run_that_no_command_describes_any_more_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = "env=cartpole scale=laptop step_limit=40"
    run = old_run(tmp_path, f"trpo-train {words}", words, SINGLE | {"scale": 0.125, "lambda": 0.9})
    before = (run / "run.json").read_bytes()
    assert main([str(tmp_path)]) == 1 and "sampler.lambda=0.9" in capsys.readouterr().err
    assert (run / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("task.iterations=3", "iterations=3"),
        ("task.gamma=0.9", "sampler.gamma=0.9"),
        ("task.hidden_sizes=[3,4]", "policy.hidden_sizes=[3,4]"),
        ("task.single.n_paths=3", "sampler.n_paths=3"),
        ("task.search.population=30", "optimizer.population=30"),
        ("sampler.step_limit=3", "step_limit=3"),
        ("optimizer.kl_limit=0.1", "optimizer.kl_limit=0.1"),
        ("env=hopper", "env=hopper"),
    ],
)
def test_words_have_the_names_of_today(old: str, new: str):
    assert new_words(f"trpo-train {old}") == [new]


def test_a_value_with_spaces_which_format_1_recorded_without_quotes_stays_one_word():
    command = (
        "trpo-train env=gymnasium env.id=Pendulum-v1 env.kwargs={g: 9.81} name=a b +policy={hidden_sizes: [4], x: 1}"
    )
    assert new_words(command) == [
        "env=gymnasium",
        "env.id=Pendulum-v1",
        "env.kwargs={g: 9.81}",
        "name=a b",
        "+policy={hidden_sizes: [4], x: 1}",
    ]
