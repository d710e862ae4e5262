"""Laws of evaluations while training, of the score that ends a run, and of a run that begins with another's policy."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compose import composed, executed, planned

from trpo_cli.cli.evaluate import load_trained
from trpo_cli.config.plan import plan as make_plan
from trpo_cli.errors import ConfigError
from trpo_cli.parallel import processes
from trpo_cli.parallel.group import Group
from trpo_cli.runs.checkpoint import save_checkpoint
from trpo_cli.runs.load import read_checkpoint
from trpo_cli.samplers.episodes import run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.sims.base import Task
from trpo_cli.training import evaluation
from trpo_cli.training.algorithms import PolicyUpdate
from trpo_cli.training.evaluation import PURPOSES
from trpo_cli.training.run import execute
from trpo_cli.training.state import TrainingState

SMALL = ("iterations=6", "sampler.n_paths=4", "step_limit=40", "optimizer.kl_limit=0.1")
EVALUATED = (*SMALL, "eval.every=2", "eval.episodes=3")


def rows(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("time")} for row in found]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return executed(planned(*EVALUATED, f"outputs={tmp_path_factory.mktemp('evaluated')}"))


def test_every_second_row_has_the_greedy_score_of_the_policy_after_it(run: Path) -> None:
    evaluated = [row["iteration"] for row in rows(run) if "eval/return" in row]
    assert evaluated == [1, 3, 5]
    sim, policy, theta, _, _ = load_trained(run)
    actor = PolicyActor(policy, theta, greedy=True)
    returns = run_episodes(Task(sim, 40), actor, Draw(0), range(3), "rewards", PURPOSES).rewards.sum(0)
    last = rows(run)[-1]
    assert last["eval/return"] == pytest.approx(returns.mean()) and last["eval/n_episodes"] == 3
    assert last["eval/return_std"] == pytest.approx(returns.std())
    assert last["eval/score"] == pytest.approx(returns.mean() / 40)


def test_evaluations_do_not_change_the_training(run: Path, tmp_path: Path) -> None:
    plain = rows(executed(planned(*SMALL, f"outputs={tmp_path}")))
    assert [{key: x for key, x in row.items() if not key.startswith("eval/")} for row in rows(run)] == plain


def test_the_best_checkpoint_is_that_of_the_highest_score_also_after_a_stop(run: Path, tmp_path: Path) -> None:
    scores = {row["iteration"] + 1: row["eval/score"] for row in rows(run) if "eval/score" in row}
    best = read_checkpoint(run, "best")
    assert best["iteration"] == max(scores, key=lambda iteration: (scores[iteration], -iteration))
    assert load_trained(run, "best")[2].equal(best["theta"])
    for stopped_after in range(1, 6):
        plan = planned(*EVALUATED, f"outputs={tmp_path / str(stopped_after)}")
        log = plan.directory / "progress.jsonl"
        execute(
            plan, Group(), lambda log=log, n=stopped_after: 15 if log.exists() and len(rows(log.parent)) >= n else 0
        )
        assert len(rows(executed(plan))) == 6
        assert rows(plan.directory) == rows(run)
        assert read_checkpoint(plan.directory, "best")["theta"].equal(best["theta"])


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_stop_breaks_an_evaluation_off_and_what_was_learnt_is_not_computed_again(
    n_workers: int, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(*EVALUATED, f"outputs={tmp_path}", "checkpoint_every=5")
    evaluating: list[bool] = []

    def asked() -> int:  # during the second evaluation, which follows the fourth iteration
        return 15 if evaluating and len(rows(plan.directory)) == 3 else 0

    whole = evaluation.GreedyEvaluation.__call__

    def noticed(*arguments: Any) -> Any:
        evaluating.append(True)
        found = whole(*arguments)
        evaluating.clear()
        return found

    monkeypatch.setattr(evaluation.GreedyEvaluation, "__call__", noticed)
    assert processes.run(n_workers, lambda group: execute(plan, group, asked)) == 128 + 15
    saved = read_checkpoint(plan.directory)
    assert len(rows(plan.directory)) == saved["iteration"] == 3 and "collect/score" in saved["pending"]
    learnt = PolicyUpdate.iterate
    seen: list[int] = []

    def counted(self: PolicyUpdate, state: TrainingState, group: Group) -> Any:
        seen.append(state.iteration)
        return learnt(self, state, group)

    monkeypatch.setattr(PolicyUpdate, "iterate", counted)
    executed(plan)
    assert seen == [4, 5] and [row.keys() for row in rows(plan.directory)] == [row.keys() for row in rows(run)]
    assert n_workers > 1 or rows(plan.directory) == rows(run)  # two workers round sums in another way
    assert "pending" not in read_checkpoint(plan.directory)


def test_scores_of_evaluations_of_another_size_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*EVALUATED, f"outputs={tmp_path}"]
    run = executed(planned(*words))
    state = TrainingState.from_dict(read_checkpoint(run))
    assert state.best_of == 3
    save_checkpoint(run, replace(state, best=1e9).to_dict())  # a score that no later one reaches
    assert read_checkpoint(executed(planned(*words, "iterations=8")), "best")["iteration"] <= 6
    capsys.readouterr()
    executed(planned(*words, "iterations=10", "eval.episodes=4"))
    assert "eval.episodes was 3 and is now 4: the scores cannot be compared" in capsys.readouterr().out
    best = read_checkpoint(run, "best")
    assert best["iteration"] == 10 and best["best_of"] == 4 and best["best"] < 1e9


def test_a_finished_run_says_that_evaluations_apply_to_later_iterations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, f"outputs={tmp_path}"]
    told = "eval.every and eval.episodes apply to the iterations that follow if it is made longer."
    executed(planned(*words))
    executed(planned(*words))
    assert told not in capsys.readouterr().out
    executed(planned(*words, "eval.every=2"))
    assert told in capsys.readouterr().out.splitlines()


def test_a_run_can_begin_with_anothers_best_checkpoint(run: Path, tmp_path: Path) -> None:
    words = [*SMALL, f"init_from={run}", f"outputs={tmp_path}"]
    last, best = (planned(*words, f"init_checkpoint={which}") for which in ("last", "best"))
    assert last.identity == planned(*words).identity and best.identity["init_checkpoint"] == "best"
    for plan, which in ((last, "last"), (best, "best")):
        assert plan.start is not None and plan.start.source.theta.equal(read_checkpoint(run, which)["theta"])


def test_a_run_without_evaluations_has_no_best_checkpoint(tmp_path: Path) -> None:
    directory = executed(planned(*SMALL, f"outputs={tmp_path}"))
    with pytest.raises(ConfigError, match=r"has no best\.pt"):
        read_checkpoint(directory, "best")
    with pytest.raises(ConfigError, match="checkpoint=first must be one of last, best"):
        read_checkpoint(directory, "first")


@pytest.mark.parametrize(("words", "column"), [(EVALUATED, "eval/score"), (SMALL, "collect/score")])
def test_the_first_score_that_is_high_enough_ends_the_run(
    words: tuple[str, ...], column: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = rows(run)[3][column] - 1e-6
    first = next(row["iteration"] for row in rows(run) if row.get(column, -1) >= reached)
    plan = planned(*words, f"stop_at={reached}", f"outputs={tmp_path}")
    assert len(rows(executed(plan))) == first + 1
    assert f"reached stop_at={reached:g}." in capsys.readouterr().out
    executed(plan)
    assert "is finished" in capsys.readouterr().out
    assert rows(executed(planned(*words, f"outputs={tmp_path}"))) == (
        rows(run) if words == EVALUATED else rows(plan.directory)
    )
    assert len(rows(plan.directory)) == 6


def test_a_run_begins_with_anothers_policy_inputs_and_value_function(tmp_path: Path) -> None:
    words = ("env=hopper_v5", "sampler.steps_per_iteration=64", "policy.hidden_sizes=[4]", "critic.hidden_sizes=[4]")
    source = executed(planned(*words, "total_steps=1200", f"outputs={tmp_path}"))
    learnt = read_checkpoint(source)
    plan = planned(*words, "total_steps=64", f"init_from={source}", "seed=1", "name=other", f"outputs={tmp_path}")
    assert plan.start is not None and plan.identity["init_from"] == str(source)
    begun = plan.start.replaces(plan.algorithm.initial())
    assert begun.theta.equal(learnt["theta"]) and begun.iteration == begun.sim_steps_total == 0
    assert begun.critic is not None and begun.critic.theta.equal(learnt["critic"]["theta"])
    assert begun.inputs is not None and begun.inputs.n == learnt["inputs"]["n"]
    np.testing.assert_array_equal(begun.input_map.centre, learnt["input_map"]["centre"].numpy())
    directory = executed(plan)
    (source / "run.json").rename(source / "moved.json")  # a run that has begun needs its source no more
    assert (
        planned(*words, "total_steps=64", f"init_from={source}", "seed=1", "name=other", f"outputs={tmp_path}").start
        is None
    )
    assert rows(directory)[0]["sim_steps_total"] == 64 and not read_checkpoint(directory)["theta"].equal(
        learnt["theta"]
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["policy.hidden_sizes=[5]"], r"has policy\.hidden_sizes=\[\], and this run has \[5\]"),
        (["policy.precision=float32"], r"has policy\.precision=float64, and this run has float32"),
        (["policy.initial_std=2"], r"policy\.initial_std would not be used: init_from=.* decides it"),
        (["env=swimmer"], r"has observations of the sizes \[4\], and this run's task has \[9\]"),
        (["policy.input_scale=running"], r"both have to be running, or neither"),
        (["optimizer=cem"], "init_from would not be used"),
        (["init_from=nowhere"], "init_from=nowhere is no run directory"),
        (["init_checkpoint=first"], "init_checkpoint=first must be one of last, best"),
        (["init_from=null", "init_checkpoint=best"], "init_checkpoint would not be used: init_from is not set"),
    ],
)
def test_a_run_that_does_not_fit_is_refused(run: Path, words: list[str], sentence: str, tmp_path: Path) -> None:
    words = [f"init_from={run}", *words]
    folder = f"outputs={tmp_path}"  # without a run that has begun, as scripts/train leaves one in the clone
    with pytest.raises(ConfigError, match=sentence):
        make_plan(*composed(*words, folder), words)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("eval.every=0", r"eval\.every=0 must be at least 1"),
        ("eval.episodes=5", r"eval\.episodes would not be used: eval\.every is not set"),
        ("stop_at=inf", "stop_at=inf must be a finite number"),
    ],
)
def test_settings_out_of_range_are_refused(word: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make_plan(*composed(word), [word])
