"""What ``scripts/reproduce`` runs, in which order, and what it refuses."""

import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from compose import planned
from hydra import compose, initialize_config_dir
from reproducing.__main__ import NUMBERS, TARGETS, main, parse
from reproducing.jobs import PATHS_PENALTIES, PENALTIES, Control, Evaluation, Job

from trpo_cli.config.schema import conf_dir, register_schema
from trpo_cli.errors import ConfigError
from trpo_cli.reports.table1 import EVALUATION


def words(job: Job) -> dict[str, str]:
    return dict(word.split("=", 1) for word in job.overrides)


def test_every_job_of_a_figure_composes_and_has_a_directory_of_its_own():
    jobs = parse(["figure4", "scale=smoke", "seeds=2"]).jobs()
    register_schema()
    places = set()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for job in jobs:
            cfg = compose("train", list(job.overrides))
            given = words(job)
            places.add((cfg.name, given["experiment"], given.get("optimizer"), given.get("sampler"), cfg.seed))
            assert cfg.path_scale == 0.01
    assert len(places) == len(jobs)


def test_the_panels_hold_the_methods_of_the_paper():
    seed0 = parse(["figure4", "seeds=1"]).jobs()
    methods = [
        (words(job)["experiment"], words(job).get("optimizer", "trpo"), words(job).get("sampler")) for job in seed0
    ]
    assert {m[0] for m in methods if m[1] == "max_kl"} == {"fig4/cartpole"}
    assert {m[0] for m in methods if m[1] in ("cma", "empirical_fim")} == {"fig4/cartpole", "fig4/swimmer"}
    for task in ("cartpole", "swimmer", "hopper", "walker"):
        ours = [m for m in methods if m[0] == f"fig4/{task}"]
        assert {"trpo", "natural_gradient", "cem", "rwr"} <= {m[1] for m in ours}
        assert (f"fig4/{task}", "trpo", "vine") in ours
        assert sum(m[1] == "natural_gradient" for m in ours) == len(PENALTIES) + (
            len(PATHS_PENALTIES) if task == "cartpole" else 0
        )


def test_one_seed_of_every_curve_comes_before_the_next_seed_of_any():
    seeds = [int(words(job)["seed"]) for job in parse(["figure4", "seeds=3", "task=swimmer"]).jobs()]
    assert seeds == sorted(seeds) and set(seeds) == {0, 1, 2}


def test_variants_run_under_names_of_their_own():
    jobs = parse(["figure4", "scale=laptop", "seeds=1", "task=cartpole,hopper", "method=single_path"]).jobs()
    found = {
        (words(job)["name"], words(job).get("optimizer.kl_slack"), words(job).get("optimizer.line_search"))
        for job in jobs
    }
    assert found == {
        ("figure4-laptop", None, None),
        ("figure4-laptop-2delta", "2", None),
        ("figure4-laptop-halving", None, "halving"),
    }


def test_table2_runs_both_samplers_on_its_three_tasks():
    jobs = parse(["table2", "seeds=1"]).jobs()
    assert [(words(job)["experiment"], words(job)["sampler"]) for job in jobs] == [
        (f"table2/{task}", sampler) for task in ("swimmer", "hopper", "walker") for sampler in ("single", "vine")
    ]


def test_only_folders_that_exist_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    request = parse(["figure4", "task=cartpole", "method=single_path", "out=figures"])
    assert request.report() == []
    (tmp_path / "outputs" / "figure4").mkdir(parents=True)
    assert request.report() == ["figure4", "outputs/figure4", "--out", "figures/figure4", "--task", "cartpole"]


@pytest.mark.parametrize(
    "given, named",
    [
        ([], "one of figure4, table2, figure5, table1, table3"),
        (["figure9"], "one of figure4, table2, figure5, table1, table3"),
        (["figure4", "tusk=hopper"], "tusk=hopper"),
        (["figure4", "task=hoper"], "task=hoper does not exist; choices: cartpole"),
        (["figure4", "scale=huge"], "scale=huge"),
        (["figure4", "seeds=0"], "seeds=0 must be"),
        (["figure4", "seeds=two"], "seeds=two must be"),
    ],
)
def test_words_that_mean_nothing_are_refused(given: list[str], named: str):
    with pytest.raises(ConfigError) as refusal:
        parse(given)
    assert named in str(refusal.value)


def test_the_atari_targets_share_their_runs_and_table_1_evaluates_them():
    figure, table = parse(["figure5", "scale=smoke", "iterations=3"]), parse(["table1", "scale=smoke", "iterations=3"])
    assert figure.jobs() == table.jobs() and len(figure.jobs()) == 14 and not figure.evaluations()
    assert figure.jobs()[0].command == "trpo-train env=atari/pong scale=smoke seed=0 name=figure5-smoke iterations=3"
    assert "sampler=vine" in figure.jobs()[7].overrides
    pong = [e.command for e in table.evaluations() if "pong" in str(e.run_directory)]
    place = "outputs/figure5-smoke/atari/pong"
    assert pong == [
        f"trpo-eval run={place}/trpo-single/seed0 episodes=100 out={place}/trpo-single/seed0/evaluation.json",
        f"trpo-eval run={place}/trpo-vine/seed0 episodes=100 out={place}/trpo-vine/seed0/evaluation.json",
        f"trpo-eval run={place}/trpo-single/seed0 episodes=100 random=true "
        f"out={place}/trpo-single/seed0/evaluation_random.json",
    ]


def test_a_run_is_evaluated_again_only_where_it_was_trained_further(tmp_path: Path):
    evaluation = Evaluation(tmp_path, 5, EVALUATION)
    assert evaluation.run() == 0  # no checkpoint: nothing to do
    (tmp_path / "progress.jsonl").write_text("{}\n{}\n")
    (tmp_path / "evaluation.json").write_text('{"iterations": 2, "episodes": 5}')
    assert evaluation._up_to_date() and not Evaluation(tmp_path, 6, EVALUATION)._up_to_date()
    (tmp_path / "progress.jsonl").write_text("{}\n{}\n{}\n")
    assert not evaluation._up_to_date()
    (tmp_path / "evaluation.json").write_text("{")
    assert not evaluation._up_to_date()


def test_the_benchmark_runs_ours_scores_it_twice_and_runs_the_controls_on_fewer_seeds():
    request = parse(["gymnasium", "task=hopper_v5,CartPole-v1", "seeds=6"])
    todo = request.todo()
    ours = [job for job in todo if isinstance(job, Job)]
    assert [words(job)["seed"] for job in ours] == [str(200 + i) for i in range(6) for _ in range(2)]
    assert [planned(*job.overrides).schedule.total_steps for job in ours[:2]] == [10**6, 10**5]
    scored = [job for job in todo if isinstance(job, Evaluation)]
    assert {job.run_directory for job in scored} == {planned(*job.overrides).directory for job in ours}
    assert [job.command.split("/")[-1] for job in scored[:2]] == ["evaluation_greedy.json", "evaluation.json"]
    assert ["greedy=true" in job.words for job in scored[:2]] == [True, False]
    controls = [job for job in todo if isinstance(job, Control)]
    assert len(controls) == 5 * 2 * 2 and len({job.directory for job in controls}) == 20
    assert controls[0].command.startswith("python scripts/reproducing/controls.py Hopper-v5 trpo 200 1000000 outputs/")
    assert request.report() == [] or request.report()[0] == "gymnasium"


def test_every_task_of_the_benchmark_composes_with_a_critic():
    for job in parse(["gymnasium", "seeds=1", "method=ours"]).todo():
        if isinstance(job, Job) and "LunarLander" not in job.command and "Bipedal" not in job.command:  # need box2d
            assert planned(*job.overrides).critic is not None


def test_the_benchmark_has_one_scale():
    with pytest.raises(ConfigError, match="scale=smoke does not exist"):
        parse(["gymnasium", "scale=smoke"])
    with pytest.raises(ConfigError, match="method=vine does not exist; choices: ours, trpo, ppo"):
        parse(["gymnasium", "method=vine"])


def test_each_job_says_which_of_how_many_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def ended(command: list[str]) -> CompletedProcess[str]:
        return CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", ended)
    monkeypatch.setattr(sys, "argv", ["reproduce", "table2", "task=hopper,walker", "seeds=1", "scale=smoke"])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" $ ")[0] for line in lines] == [f"job {i} of 4" for i in (1, 2, 3, 4)]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_is_a_page_with_every_target_and_key(
    flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["reproduce", flag])
    assert main() == 0
    page = capsys.readouterr().out
    for word in (*TARGETS, "scale=paper", "task=", "method=", *(f"{key}=" for key in NUMBERS), "out=outputs"):
        assert f"\n  {word}" in page
    for line in page.partition("Examples\n")[2].splitlines():
        assert parse(line.split()[1:]).jobs()
