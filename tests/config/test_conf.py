"""Every YAML file of ``conf/`` composes and builds; the numbers of Table 2 and of the authors' run files."""

import re
import shutil
from dataclasses import MISSING, fields, is_dataclass, replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose import CONF, composed, options, planned
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from trpo_cli.cli import help
from trpo_cli.cli.sweeps import PACKAGES
from trpo_cli.config.plan import RESOURCES
from trpo_cli.config.scale import LEAST
from trpo_cli.config.schema import register_schema
from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.trust_region import TrustRegion
from trpo_cli.samplers.single_path import SinglePath
from trpo_cli.samplers.vine import Vine
from trpo_cli.training.run import Plan

YAMLS = sorted(CONF.rglob("*.yaml"))
METHODS = [
    f"optimizer={optimizer} sampler={sampler}"
    for optimizer in options("optimizer")
    for sampler in options("sampler")
    if sampler == "single" or optimizer not in ("cem", "cma", "rwr")
]


GROUPS = sorted(group for group in help.GROUPS if "/" not in group and group != "logger")  # see tests/loggers
WORDS = [f"{group}={option}" for group in GROUPS for option in options(group)]


# Words without which an option says nothing.
NEEDED = {
    "env=gymnasium": ["env.id=CartPole-v1"],
    "critic=conv": ["env=atari/pong"],
    "env=atari": ["env.game=pong"],
    "policy=atari": ["env=atari/pong"],
    "policy=conv": ["env=atari/pong"],
}


def targets() -> list[str]:
    """Every class that a YAML file names."""
    files = [yaml.safe_load(path.read_text()) or {} for path in YAMLS]  # critic=none has no key
    return sorted({node["_target_"] for file in files for node in (file, file.get("env", {})) if "_target_" in node})


def method_parts(method: str) -> tuple[str, str, str]:
    """Critic, optimizer and sampler of a run directory's name: ``trpo-single-mlp``, ``trpo-single``."""
    optimizer, sampler, *critic = method.split("-")
    return critic[0] if critic else "none", optimizer, sampler


@pytest.mark.parametrize("word", WORDS)
def test_every_option_composes_and_builds(word: str):
    group, _, option = word.partition("=")
    plan = planned(word, *NEEDED.get(word, []))
    name, *env_parts, method, _ = plan.directory.parts[1:]
    env = "/".join(env_parts)
    if group == "experiment":
        assert (name, env) == (option.split("/")[0].replace("fig4", "figure4"), option.split("/")[1])
    elif group == "scale":
        assert plan.sampler.n_paths == {"paper": 256, "laptop": 32, "smoke": 3}[option]  # type: ignore[attr-defined]
    else:
        chosen = dict(zip(("critic", "optimizer", "sampler"), method_parts(method), strict=True)) | {"env": env}
        assert (
            chosen[group] == option
            if group in chosen
            else type(plan.policy.network).__name__ == {"mlp": "MlpNetwork"}.get(option, "ConvNetwork")
        )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_composes(method: str):
    words = method.split()
    plan = planned("env=hopper", *words, *(["policy.hidden_sizes=[4]"] if "cma" in method else []))
    assert plan.directory.parts[3] == "-".join(word.partition("=")[2] for word in words)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_an_experiment_file_starts_with_the_command_that_runs_it_and_holds_only_differences(experiment: str):
    lines = (CONF / f"experiment/{experiment}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert re.match(rf"# trpo-train (-m )?experiment={experiment}: ", lines[1])
    assert planned(f"experiment={experiment}", "sampler=vine", "optimizer=natural_gradient").directory.parts[3] == (
        "natural_gradient-vine"
    )


@pytest.mark.parametrize("launcher", [option for option in options("hydra") if option.startswith("launcher/")])
def test_a_launcher_of_sweeps_builds_on_a_plugin_that_is_known_by_its_package(launcher: str):
    text = (CONF / f"hydra/{launcher}.yaml").read_text()
    (plugin,) = yaml.safe_load(text)["defaults"]
    assert text.startswith("# trpo-train -m ") and f" hydra/{launcher.replace('/', '=')}" in text.splitlines()[0]
    try:
        assert planned(f"hydra/{launcher.replace('/', '=')}").schedule.iterations == 50
    except ConfigError as error:  # not installed
        assert str(error).startswith(f"hydra/launcher={plugin} does not exist") and plugin in "".join(PACKAGES)


def test_the_sweep_settings_compose_and_interpolate_nodes_that_exist():
    register_schema()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = compose("train", ["name=several", "outputs=elsewhere"], return_hydra_config=True)
    assert cfg.hydra.sweep.dir == "elsewhere/several"
    assert cfg.hydra.sweep.subdir == cfg.hydra.run.dir == "."
    assert cfg.hydra.job.chdir is False and cfg.hydra.output_subdir is None


TABLE_2 = {  # steps an iteration, branch length, Q-values a batch, layers
    "swimmer": (50_000, 50, 500, (30,)),
    "hopper": (1_000_000, 100, 2500, (50, 50)),
    "walker": (1_000_000, 100, 2500, (50, 50)),
}


def common(plan: Plan) -> None:
    assert isinstance(plan.optimizer, TrustRegion) and plan.optimizer.kl_limit == 0.01
    assert plan.optimizer.kl_slack == 1 and plan.optimizer.line_search == "boundary"
    assert plan.schedule.iterations == 200 and plan.seed == 0
    assert plan.sampler.gamma == 0.99 and plan.task.step_limit == 1000  # type: ignore[attr-defined]


@pytest.mark.parametrize("words", ["env={}", "experiment=table2/{}"])
@pytest.mark.parametrize("env", TABLE_2)
def test_a_task_brings_the_numbers_of_table_2(words: str, env: str):
    steps, branch_length, n_q_values, layers = TABLE_2[env]
    vine, single = (planned(words.format(env), f"sampler={sampler}") for sampler in ("vine", "single"))
    common(vine)
    common(single)
    assert isinstance(vine.sampler, Vine) and isinstance(single.sampler, SinglePath)
    assert (vine.sampler.n_trunks, vine.sampler.n_actions, vine.sampler.branch_length) == (16, 4, branch_length)
    assert vine.sampler.n_states * vine.sampler.n_actions == n_q_values
    assert single.sampler.n_paths == {"swimmer": 50, "hopper": 1000, "walker": 10_000}[env]
    assert (single.sampler.steps_per_iteration or single.sampler.n_paths * 1000) == steps
    network = vine.policy.network
    assert tuple(network.sizes[1:-1]) == layers and network.nonlinearity == "softplus"


@pytest.mark.parametrize("kind", ["icml", "fig4"])
@pytest.mark.parametrize(
    ("env", "n_paths", "step_limit", "iterations", "n_states"),
    [
        ("cartpole", 256, 1000, 50, 200),
        ("swimmer", 400, 500, 50, 1000),
        ("hopper", 512, 1000, 200, 5000),
        ("walker", 512, 1000, 200, 5000),
    ],
)
def test_the_authors_run_files(kind: str, env: str, n_paths: int, step_limit: int, iterations: int, n_states: int):
    plan = planned(f"experiment={kind}/{env}")
    assert isinstance(plan.sampler, SinglePath) and plan.sampler.steps_per_iteration is None
    assert (plan.sampler.n_paths, plan.task.step_limit, plan.schedule.iterations) == (n_paths, step_limit, iterations)
    vine = planned(f"experiment={kind}/{env}", "sampler=vine").sampler
    assert isinstance(vine, Vine)
    assert (vine.n_trunks, vine.n_states, vine.n_actions, vine.branch_length) == (32, n_states, 4, 101)
    assert planned(f"experiment={kind}/{env}", "optimizer=cem").optimizer.population == n_paths


@pytest.mark.parametrize(
    ("env", "n_parameters"), [("cartpole", 6), ("swimmer", 364), ("hopper", 3306), ("walker", 3762)]
)
def test_the_number_of_policy_parameters(env: str, n_parameters: int):
    hidden = {"cartpole": (), "swimmer": (30,)}.get(env, (50, 50))
    plan = planned(f"env={env}")
    sizes = (*plan.task.sim.obs_shape, *hidden, plan.task.sim.action_space.size)
    by_hand = sum((a + 1) * b for a, b in pairwise(sizes)) + plan.task.sim.action_space.size
    assert plan.policy.n_parameters == by_hand == n_parameters


@pytest.mark.parametrize(
    ("words", "scale", "drawn"),
    [  # the numbers of the runs that were published under scale=laptop among them
        ("experiment=fig4/cartpole", "laptop", {"n_paths": 32}),
        ("experiment=fig4/cartpole sampler=vine", "laptop", {"n_trunks": 4, "n_states": 25}),
        ("experiment=fig4/hopper", "laptop", {"n_paths": 64}),
        ("experiment=fig4/hopper sampler=vine", "laptop", {"n_trunks": 4, "n_states": 625}),
        ("env=walker", "laptop", {"n_paths": 1250, "steps_per_iteration": 125_000}),
        ("env=atari/pong sampler=vine", "smoke", {"trunk_steps": 400, "steps_per_iteration": 4000}),
        ("env=cartpole sampler=vine", "smoke", {"n_trunks": 1, "n_states": 2}),
        ("env=cartpole sampler.n_paths=3", "smoke", {"n_paths": 2}),
        ("env=cartpole optimizer=cem", "laptop", {"population": 32}),
        ("env=cartpole optimizer=cma", "smoke", {"population": 20}),
        (
            "env=cartpole optimizer=cem optimizer.population=30 optimizer.elite_fraction=0.5",
            "laptop",
            {"population": 20},
        ),
    ],
)
def test_a_scale_multiplies_what_an_iteration_draws_and_nothing_else(words: str, scale: str, drawn: dict[str, int]):
    full, small = (planned(*words.split(), f"scale={scale}") for scale in ("paper", scale))
    part = "optimizer" if "population" in drawn else "sampler"
    assert {name: getattr(getattr(small, part), name) for name in drawn} == drawn
    numbers = {name: getattr(getattr(full, part), name) for name in LEAST if hasattr(getattr(full, part), name)}
    assert replace(getattr(small, part), **numbers) == getattr(full, part)
    assert full.config | {"path_scale": 0} == small.config | {"path_scale": 0}


def test_a_number_is_checked_as_it_was_written_and_at_scale_1_stays_as_it_is():
    with pytest.raises(ConfigError, match=r"^sampler\.n_paths=1 must be at least 2"):
        planned("sampler.n_paths=1", "scale=smoke")
    assert planned("sampler.n_paths=1", "sampler.baseline=none").sampler.n_paths == 1
    assert planned("optimizer=cma", "optimizer.population=4").optimizer.population == 4


@pytest.mark.parametrize("target", targets())
def test_no_number_of_a_component_stands_as_a_default_in_its_class(target: str):
    module, _, name = target.rpartition(".")
    cls = getattr(import_module(module), name)
    assert is_dataclass(cls)
    given = {f.name for f in fields(cls) if f.default is not MISSING or f.default_factory is not MISSING}
    assert given <= {key.removeprefix("env.") for key in RESOURCES}  # which change no number of a run


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("iteratons", "iteratons: 3"),
        ("step_limt", "step_limt: 3"),
        ("task", "task:\n  gamma: 0.9"),
        ("optimizer.kl_limt", "optimizer:\n  kl_limt: 0.1"),
        ("sampler.n_pahts", "sampler:\n  n_pahts: 3"),
        ("policy.hidden_size", "policy:\n  hidden_size: [3]"),
        ("env.gravty", "env:\n  gravty: 3"),
    ],
)
def test_a_misspelt_key_in_an_experiment_file_is_refused(key: str, body: str, tmp_path: Path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    (conf / "experiment/typo.yaml").write_text(f"# @package _global_\n{body}\n")
    with pytest.raises(ConfigError) as caught:
        planned("experiment=typo", conf=conf)
    assert str(caught.value).startswith(key) and "does not exist" in str(caught.value)


def test_an_experiment_wins_over_the_options_and_the_command_line_over_the_experiment(tmp_path: Path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    (conf / "experiment/mine.yaml").write_text("# @package _global_\nseed: 7\noptimizer:\n  kl_limit: 0.5\n")
    assert planned("experiment=mine", conf=conf).optimizer.kl_limit == 0.5
    assert (
        planned("experiment=mine", "optimizer.kl_limit=0.2", "optimizer=empirical_fim", conf=conf).optimizer.kl_limit
        == 0.2
    )
    assert planned("experiment=mine", conf=conf).seed == 7


OWN_ENV = "# @package _global_\nenv:\n  _target_: trpo_cli.sims.gymnasium.Gymnasium\n  id: Acrobot-v1\n  kwargs: null\n"


@pytest.mark.parametrize("method", METHODS)
def test_an_env_file_needs_only_its_own_numbers_and_a_step_limit(method: str, tmp_path: Path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    (conf / "env/mine.yaml").write_text(OWN_ENV + "step_limit: 70\n")
    plan = planned("env=mine", *method.split(), *(["policy.hidden_sizes=[4]"] if "cma" in method else []), conf=conf)
    assert plan.task.step_limit == 70 and plan.schedule.iterations == 100


def test_without_a_step_limit_it_is_the_environments_own():
    assert planned("env=gymnasium", "env.id=CartPole-v1").task.step_limit == 500
    assert planned("env=gymnasium", "env.id=CartPole-v1", "step_limit=7").task.step_limit == 7


COMPONENTS = [word for word in WORDS if word.partition("=")[0] in ("policy", "sampler", "optimizer")]


@pytest.mark.parametrize("word", COMPONENTS)
def test_an_option_holds_a_default_for_every_field_of_its_component(word: str):
    group, _, option = word.partition("=")
    node = compose_group(group, option)
    module, _, name = node.pop("_target_").rpartition(".")
    assert set(node) == {field.name for field in fields(getattr(import_module(module), name))}


def compose_group(group: str, option: str) -> dict[str, Any]:
    """An option's file laid over those that its defaults name."""
    content = yaml.safe_load((CONF / group / f"{option}.yaml").read_text())
    bases = [base for base in content.pop("defaults", []) if isinstance(base, str) and base != "_self_"]
    return {
        key: value for part in [*(compose_group(group, base) for base in bases), content] for key, value in part.items()
    }


FOUND_BY = {name: f"${{{name}}}" for name in ("policy", "sampler", "optimizer")} | {"critic": "${sampler}-${critic}"}
DIFFERENCES = sorted(p for group in FOUND_BY for p in (CONF / f"env_{group}").glob("*.yaml"))


@pytest.mark.parametrize("path", DIFFERENCES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_of_differences_is_found_by_an_env_and_sets_keys_of_its_options(path: Path):
    group, (env, *chosen) = path.parent.name.removeprefix("env_"), path.stem.split("-")
    text = path.read_text()
    if chosen:  # the others are bases, which files beside them name
        texts = [file.read_text() for folder in ("env", "env_shared") for file in (CONF / folder).rglob("*.yaml")]
        found_by_override = any(f"override /env_{group}: {env}-{FOUND_BY[group]}\n" in text for text in texts)
        assert env in options("env") or found_by_override or is_base(path)
        assert text.startswith("# @package _global_\n# env=")
    else:
        assert is_base(path)
    option = {"policy": "mlp", "sampler": "single", "critic": "mlp", "optimizer": "trpo"}
    option |= dict(zip(["sampler", "critic"] if group == "critic" else [group], chosen, strict=False))
    for key, value in compose_group(f"env_{group}", path.stem).items():
        assert key in ("iterations", "total_steps") or set(value) <= set(compose_group(key, option[key]))


def is_base(path: Path) -> bool:
    return any(f"  - {path.stem}\n" in other.read_text() for other in path.parent.glob("*.yaml"))


def test_an_experiment_wins_over_the_differences_of_its_env_and_the_command_line_over_all(tmp_path: Path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    assert planned("env=hopper").sampler.n_paths == 1000
    assert planned("experiment=fig4/hopper").sampler.n_paths == 512
    assert planned("experiment=fig4/hopper", "sampler.n_paths=9").sampler.n_paths == 9
    (conf / "experiment/mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /experiment/icml/hopper\n  - _self_\nsampler:\n  n_paths: 7\n"
    )
    assert planned("experiment=mine", conf=conf).sampler.n_paths == 7
    (conf / "experiment_sampler/mine-vine.yaml").write_text("# @package _global_\nsampler:\n  n_states: 3\n")
    defaults = "defaults:\n  - _self_\n  - override /experiment_sampler: mine-${sampler}\n"
    (conf / "experiment/mine.yaml").write_text(f"# @package _global_\n{defaults}name: mine\n")
    assert planned("experiment=mine", conf=conf).sampler.n_paths == 256
    assert planned("experiment=mine", "sampler=vine", conf=conf).sampler.n_states == 3


def test_every_value_of_a_composed_configuration_is_in_the_end_a_number_or_a_word():
    cfg, _ = composed("env=hopper", "sampler=vine")
    flat = OmegaConf.to_yaml(cfg, resolve=True)
    assert "${" not in flat and "???" not in flat


@pytest.mark.parametrize("words", [["env=hopper_v5"], ["env=swimmer_v5"], ["env=gymnasium", "env.id=CartPole-v1"]])
def test_what_a_task_sets_for_one_policy_is_not_set_for_another(words: list[str]):
    keys = composed(*words, "policy=atari")[0].policy
    assert "input_scale" not in keys and "initial_std" not in keys
    with pytest.raises(ConfigError, match="policy=atari needs images"):
        planned(*words, "policy=atari")
