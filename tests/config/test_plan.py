"""What a run is: one step limit, an identity of the values that it uses, and a command that composes it again."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from compose import executed, planned

from trpo_cli.cli.evaluate import Request, evaluate
from trpo_cli.config.plan import plan as make_plan
from trpo_cli.errors import ConfigError
from trpo_cli.runs.directory import require_same_run
from trpo_cli.samplers import input_range
from trpo_cli.samplers.rollout import Rollout
from trpo_cli.sims.base import Task
from trpo_cli.training.run import Plan

EXTENDS = [
    ("iterations=5", "iterations=6"),
    ("iterations=5 name=a", "experiment=tune/cartpole iterations=6 name=a path_scale=1"),
    ("env=hopper", "env=hopper iterations=6"),
    ("workers=1", "workers=2"),
    ("sampler.steps_per_iteration=500", "sampler.steps_per_iteration=500 scale=paper checkpoint_every=3"),
]
SAME = [
    # values that the run does not use, as an experiment file or another version of conf/ may set them
    ("sampler.steps_per_iteration=500", "+sampler.n_paths=9"),
    ("optimizer=cem", "+sampler.n_paths=9"),
    ("policy.hidden_sizes=[]", "+policy.nonlinearity=relu"),
    ("env=hopper", "+env.feet=[foot_geom]"),
    ("optimizer.fisher_fraction=1.0", "+optimizer.fisher_min_states=3"),
    # the same numbers, said in another way
    ("path_scale=0.125", "+sampler.n_paths=32 path_scale=1"),
    ("optimizer=cem path_scale=0.125", "+optimizer.population=32 path_scale=1"),
]
OTHERS = {
    "seed=1": "seed",
    "step_limit=30": "step_limit",
    "sampler.n_paths=9": "sampler.n_paths",
    "path_scale=0.5": "sampler.n_paths",
    "sampler.gamma=0.9": "sampler.gamma",
    "env.dt=0.1": "env.dt",
    "policy.initial_std=0.1": "policy.initial_std",
    "optimizer.kl_limit=0.1": "optimizer.kl_limit",
}


def accepted(directory: Path, first: Plan, second: Plan) -> bool:
    """True if the directory of the first run would be continued by the second."""
    (directory / "run.json").write_text(json.dumps({"format": 2, "identity": first.identity}))
    return require_same_run(directory, json.loads(json.dumps(second.identity))) is not None


@pytest.mark.parametrize(("first", "second"), EXTENDS)
def test_a_run_is_extended_however_its_iterations_are_said(first: str, second: str, tmp_path: Path):
    assert accepted(tmp_path, planned(*first.split()), planned(*second.split()))


@pytest.mark.parametrize(("first", "more"), SAME)
def test_a_value_that_a_run_does_not_use_is_no_part_of_it(first: str, more: str, tmp_path: Path):
    words = first.split()
    assert accepted(tmp_path, planned(*words), planned(*words, *(word.lstrip("+") for word in more.split())))


@pytest.mark.parametrize("words", OTHERS)
def test_a_value_that_it_uses_is(words: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=rf"holds a run with {OTHERS[words]}="):
        accepted(tmp_path, planned(), planned(words))


def test_the_identity_holds_what_is_drawn_and_neither_iterations_nor_a_sampler_that_is_not_used():
    vine = planned("experiment=fig4/hopper", "sampler=vine", "scale=laptop").identity
    assert list(vine) == ["seed", "step_limit", "env", "policy", "sampler", "optimizer"]
    assert (vine["sampler"]["n_trunks"], vine["sampler"]["n_states"]) == (4, 625)
    assert "step_limit" not in vine["sampler"] and vine["step_limit"] == 1000
    search = planned("optimizer=cem", "scale=laptop").identity
    assert "sampler" not in search and search["optimizer"]["population"] == 32


def test_training_evaluation_and_score_have_one_step_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    played: list[int] = []
    run_episodes = input_range.run_episodes

    def watched(task: Task, *rest: Any, **options: Any) -> Rollout:
        played.append(task.step_limit)
        return run_episodes(task, *rest, **options)

    monkeypatch.setattr(input_range, "run_episodes", watched)
    words = ("policy.input_scale=percentile", "sampler.n_paths=8", "iterations=1", "optimizer.kl_limit=1e-9")
    plan = planned("step_limit=50", *words, "env.angle_limit=9", "env.position_limit=1e9", f"outputs={tmp_path}")
    row = json.loads((executed(plan) / "progress.jsonl").read_text())
    result = evaluate(Request(run=str(plan.directory), episodes=8))
    assert plan.task.step_limit == 50 and set(played) == {50}
    assert row["collect/episode_length"] == result["length_mean"] == 50
    assert result["score"] == pytest.approx(row["collect/score"], rel=0.01)


@pytest.mark.parametrize(
    "words",
    [
        ["env=gymnasium", "env.id=Pendulum-v1", "env.kwargs={g: 9.81}"],
        ["seed=${iterations}", "name='a b'", "iterations=3"],
        ["policy.hidden_sizes=[4, 4]", 'name="s/policy.hidden_sizes=4,4"'],
    ],
)
def test_the_recorded_command_composes_the_run_again(words: list[str]):
    from compose import composed

    plan = make_plan(*composed(*words), words)
    command, *again = shlex.split(plan.command)
    assert command == "trpo-train" and again == words
    repeated = make_plan(*composed(*again), again)
    assert (repeated.identity, repeated.directory) == (plan.identity, plan.directory)


def test_a_number_that_the_scale_has_made_too_small_is_told_with_the_scale():
    said = r"sampler\.steps_per_iteration=2 must be at least sampler\.streams=4.*; path_scale=0\.01 has changed "
    with pytest.raises(ConfigError, match=f"{said}.*, steps_per_iteration from 200 to 2$"):
        planned("env=hopper_v5", "scale=smoke", "sampler.steps_per_iteration=200")
