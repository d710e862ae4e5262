"""What ``scripts/reproduce`` runs, in which order, and what it refuses."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from trpo_cli.config import conf_dir, register_schema
from trpo_cli.errors import ConfigError
from trpo_cli.reproduce import PENALTIES, Job, parse


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
        assert sum(m[1] == "natural_gradient" for m in ours) == len(PENALTIES)


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
        ([], "figure4 or table2"),
        (["figure9"], "figure4 or table2"),
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
