"""Runs with a critic: where they are, what their rows hold, that they learn and go on, and what cannot have one."""

import json
from pathlib import Path

import numpy as np
import pytest
from compose import composed, executed, planned

from trpo_cli.config.plan import plan as plan_of
from trpo_cli.errors import ConfigError
from trpo_cli.parallel.group import Group
from trpo_cli.reports.read_runs import read_run
from trpo_cli.training.run import execute

SMALL = ("step_limit=60", "critic=mlp", "critic.hidden_sizes=[8]")


def rows(directory: Path) -> list[dict[str, object]]:
    lines = (directory / "progress.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("time")} for line in lines]


STREAMS = ("sampler.streams=3", "sampler.steps_per_iteration=150", "policy.input_scale=running")


@pytest.mark.parametrize(
    "sampler", [("sampler.n_paths=8",), ("sampler=vine", "sampler.n_trunks=3", "sampler.n_states=9"), STREAMS]
)
def test_a_run_with_a_critic_resumes_to_the_rows_of_an_undisturbed_one(sampler: tuple[str, ...], tmp_path: Path):
    whole = executed(planned(*SMALL, *sampler, "iterations=5", f"outputs={tmp_path / 'whole'}"))
    part = executed(planned(*SMALL, *sampler, "iterations=2", f"outputs={tmp_path / 'part'}"))
    again = planned(*SMALL, *sampler, "iterations=5", f"outputs={tmp_path / 'part'}")
    assert execute(again, Group(), lambda: 0) == 0
    assert rows(whole) == rows(part)
    assert {"critic/explained_variance", "critic/loss"} <= rows(whole)[-1].keys()
    assert whole.parent.name == ("trpo-vine-mlp" if "sampler=vine" in sampler else "trpo-single-mlp")


def test_a_report_tells_the_critic_from_the_plain_method(tmp_path: Path):
    directory = executed(planned(*SMALL, "sampler.n_paths=4", "iterations=1", f"outputs={tmp_path}"))
    run = read_run(directory)
    assert run is not None and (run.method, run.sampler, run.critic) == ("single_path_mlp", "single", "mlp")


def test_without_a_critic_nothing_is_said_of_one():
    plain = planned("critic=none")
    assert plain.critic is None and "critic" not in plain.identity and plain.directory.parent.name == "trpo-single"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("optimizer=rwr critic=mlp sampler.streams=2 sampler.steps_per_iteration=20", "add sampler.streams=null"),
        ("sampler.streams=2 sampler.steps_per_iteration=20", "or choose a critic="),
        ("critic=mlp critic.gae_lambda=2", "critic.gae_lambda=2"),
        ("critic=mlp critic.steps=0", "critic.steps=0"),
    ],
)
def test_what_cannot_have_a_critic_is_refused(words: str, named: str):
    with pytest.raises(ConfigError, match=named):
        planned(*words.split())


def test_the_critic_explains_most_of_the_cart_poles_returns_within_ten_iterations(tmp_path: Path):
    plan = planned("critic=mlp", "sampler.n_paths=16", "step_limit=200", "iterations=10", f"outputs={tmp_path}")
    found = rows(executed(plan))
    assert np.mean([row["critic/explained_variance"] for row in found[5:]]) > 0.5
    assert found[-1]["collect/score"] > 1.5 * found[0]["collect/score"]  # type: ignore[operator]


def test_a_budget_of_steps_ends_a_run_and_a_larger_one_extends_it(tmp_path: Path):
    words = ("sampler.n_paths=4", "step_limit=10", "env.angle_limit=9", "env.position_limit=1e9", f"outputs={tmp_path}")
    first = executed(planned(*words, "total_steps=75"))
    assert [row["sim_steps_total"] for row in rows(first)] == [40, 80]
    assert json.loads((first / "done.json").read_text())["iterations"] == 2
    assert [row["sim_steps_total"] for row in rows(executed(planned(*words, "total_steps=110")))] == [40, 80, 120]
    assert len(rows(executed(planned(*words, "total_steps=110", "iterations=2")))) == 3  # finished runs are left alone
    with pytest.raises(ConfigError, match=r"^total_steps=0 must be at least 1"):
        planned("total_steps=0")


def test_a_critic_that_a_search_is_given_is_refused():
    cfg, choices = composed("optimizer=cem", "critic=mlp")
    with pytest.raises(ConfigError, match="critic would not be used: optimizer=cem runs one episode per candidate and"):
        plan_of(cfg, choices, ["optimizer=cem", "critic=mlp"])


def test_gymnasiums_tasks_have_a_critic_streams_and_a_million_steps_and_one_word_takes_them_away():
    for words in (("env=hopper_v5",), ("env=swimmer_v5",), ("env=gymnasium", "env.id=CartPole-v1")):
        plan = planned(*words)
        assert plan.schedule.iterations is None and plan.schedule.total_steps == 10**6
        assert plan.critic is not None and plan.directory.parent.name == "trpo-single-mlp"
        assert plan.sampler.streams in (2, 4) and plan.policy.input_scale == "running"  # type: ignore[attr-defined]
        plain = planned(*words, "critic=none")
        assert plain.critic is None and plain.sampler.whole_paths
        for search in ("cem", "cma"):
            plan = planned(*words, f"optimizer={search}", "policy.hidden_sizes=[4]")
            assert plan.critic is None and plan.directory.parent.name == f"{search}-single"
            assert plan.options["critic"] == "none"


def test_a_stream_that_no_episode_has_ended_in_yet_has_no_score(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    words = ("env=gymnasium", "env.id=Pendulum-v1", "sampler.steps_per_iteration=200", f"outputs={tmp_path}")
    directory = executed(planned(*words, "total_steps=200"))
    assert rows(directory)[0]["collect/score"] is None
    assert rows(directory)[0]["sim_steps_total"] == 200 + 200  # those that the first input scales come from count
    assert "return -" in capfd.readouterr().out
    assert execute(planned(*words, "total_steps=200"), Group(), lambda: 0) == 0  # finished: it says so
    assert "is finished (1 iterations): return -" in capfd.readouterr().out
    found = rows(executed(planned(*words, "total_steps=1200")))
    assert [row["collect/n_episodes"] for row in found] == [0, 0, 0, 4, 0] and found[-1]["collect/score"] < -1


def test_a_stop_while_the_inputs_are_measured_leaves_nothing_behind(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    words = ("env=gymnasium", "env.id=Pendulum-v1", "scale=smoke", "iterations=2")
    stopped = planned(*words, f"outputs={tmp_path / 'stopped'}")
    assert execute(stopped, Group(), lambda: 15) == 128 + 15
    said = capfd.readouterr().out
    assert "measuring the inputs" in said and "Stopped after 0 of 2 iterations; the same command resumes." in said
    assert not list(stopped.directory.glob("checkpoint*")) and not rows(stopped.directory)
    assert execute(stopped, Group(), lambda: 0) == 0
    assert rows(stopped.directory) == rows(executed(planned(*words, f"outputs={tmp_path / 'whole'}")))


def test_no_worker_is_started_that_has_no_stream():
    assert planned("env=hopper_v5").max_workers == 4 and planned("env=swimmer_v5").max_workers == 2
    assert planned("env=hopper_v5", "critic=none").max_workers is None
    assert planned("sampler.n_paths=3").max_workers == 3 and planned("optimizer=cem").max_workers is None
