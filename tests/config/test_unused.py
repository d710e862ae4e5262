"""Any command line through the command itself: a run that uses every value given, or one sentence and status 2."""

import signal
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import fields
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from compose import CONF, composed, options, planned
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from trpo_cli.cli import exits
from trpo_cli.cli import train as cli
from trpo_cli.config import plan as planning
from trpo_cli.config import scale as scaling
from trpo_cli.config.schema import plain_values
from trpo_cli.config.unused import require_used, unused_fields
from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.base import Search
from trpo_cli.parallel import processes
from trpo_cli.parallel.group import Group
from trpo_cli.policies.mlp import Mlp
from trpo_cli.training import run as training_run
from trpo_cli.training.run import Plan

BASE = ("workers=1", "outputs=nowhere")
GROUPS = {group: options(group) for group in ("env", "sampler", "optimizer", "policy", "scale", "experiment")}
MISTAKES = [
    *("--nope", "-x", "--cfg", "--cfg=nothing", "--config-name=zzz", "--config-dir=/nowhere", "--multirun=3", "-m"),
    *("env", "=3", "a=b=c", "seed=[", "seed='", "seed={", "seed=${", "seed=1,2", "seed=range(3)", "seed=choice(1,2)"),
    *(
        "+env=hopper",
        "env@x=hopper",
        "env@=hopper",
        "~env",
        "~env=hopper",
        "~nothing",
        "++seed=4",
        "+seed=4",
        "++a.b=1",
    ),
    *(
        "+experiment=fig4/hopper",
        "experiment=[fig4/hopper]",
        "env=[hopper,walker]",
        "env={a: 1}",
        "env=",
        "env=../env/hopper",
    ),
    *("hydra/launcher=nope", "hydra.nope=1", "hydra.run=3", "hydra.sweeper.params=3", "hydra/nope=1", "hydra.mode=x"),
    *(
        "task={step_limit: 5}",
        "sampler={n_paths: 5}",
        "sampler.step_limit=5",
        "task.gamma=0.9",
        "sampler=null",
        "policy=null",
        "optimizer._target_=os.system",
    ),
    *("env.kwargs={g: 1}", "env.id=CartPole-v1", "env.id=Nope-v1", "name=../x", "name=a/b", "device=cuda:99", "ключ=1"),
    *("sampler.n_paths=1_000", "seed=1e3", "seed=0x10", "iterations=1.0", "path_scale=inf", "+=1", "~", "", " ", "--"),
]


@pytest.fixture(autouse=True, scope="module")
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A sweep leaves a file in its folder: not in the repository's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield


def leaves(tree: Any, prefix: str = "") -> list[str]:
    """Dotted keys of every value of a composed configuration."""
    if not isinstance(tree, dict):
        return [prefix]
    return [leaf for key, value in tree.items() for leaf in leaves(value, f"{prefix}.{key}" if prefix else key)]


KEYS = sorted(
    {key for o in options("optimizer") for key in leaves(plain_values(composed(f"optimizer={o}")[0]))}
    | {key for words in (["sampler=vine"], ["env=walker"]) for key in leaves(plain_values(composed(*words)[0]))}
)
NUMBERS = st.one_of(
    st.integers(-2, 5), st.sampled_from([10**6, 0.5, -0.5, 1.5, 1e-300, 1e300]), st.sampled_from(["inf", "-inf", "nan"])
)
WORDS = st.sampled_from(
    ["", "null", "true", "auto", "policy", "uniform", "none", "tanh", "cpu", "x", "a/b", "..", "???"]
)
LISTS = st.lists(st.one_of(NUMBERS, WORDS), max_size=4).map(lambda xs: "[" + ",".join(map(str, xs)) + "]")
ODD = st.sampled_from(["{a:1}", "${seed}", "${nowhere}", "${oc.env:NOWHERE}", "[[1]]", "1,2", "'", "range(3)"])


def said_and_planned(*words: str) -> tuple[int, list[str], list[Plan]]:
    """Exit status and sentences of the command, and the runs it would have started."""
    said: list[str] = []
    plans: list[Plan] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()):
        patch.setattr(sys, "argv", ["trpo-train", *words])
        patch.setattr(exits, "say", lambda command, sentence: said.append(sentence))
        patch.setattr(cli, "say", exits.say)
        patch.setattr(processes, "run", lambda n, body: body(Group()))
        patch.setattr(training_run, "execute", lambda plan, group, stop: plans.append(plan) or 0)
        GlobalHydra.instance().clear()
        try:
            cli.train()
            status = 0
        except SystemExit as end:
            status = end.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return status, said, plans


def parts(plan: Plan) -> tuple[Any, ...]:
    """All that makes a run what it is."""
    sampler = None if isinstance(plan.optimizer, Search) else plan.sampler
    rest = (plan.seed, plan.schedule, str(plan.directory), plan.config["workers"])
    return (
        plan.task,
        repr(plan.policy),
        sampler,
        plan.optimizer,
        *rest,
        plan.config["device"],
    )


def another(value: Any) -> str:
    """A value of the same kind as ``value``."""
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int | float):
        return str(value + 1) if abs(value) < 1e9 else "1"
    return "[7]" if isinstance(value, list) else "another"


def unused(plan: Plan, words: list[str]) -> list[str]:
    """Keys of ``words`` that could have any other value without a difference to the run."""
    found = []
    overrides = OverridesParser.create().parse_overrides([w for w in words if "=" in w and not w.startswith("-")])
    for key in {o.key_or_group for o in overrides if "." in o.key_or_group and not o.is_delete()}:
        value = OmegaConf.select(OmegaConf.create(plan.config), key)
        try:
            if parts(planned(*words, *BASE, f"++{key}={another(value)}")) == parts(plan):
                found.append(key)
        except ConfigError:
            pass  # somebody has read it
    return found


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Flags, options of the groups and values of keys, most of them right."""
    words = []
    for group, choices in GROUPS.items():
        if draw(st.integers(0, 2)) == 0:
            words.append(f"{group}={draw(st.sampled_from([*choices, *choices, 'nothing', 'null']))}")
    if "env=gymnasium" in words and draw(st.booleans()):
        words.append("env.id=CartPole-v1")
    for key in draw(st.lists(st.sampled_from([*KEYS, "env.id", "env.kwargs", "path_scale", "step_limit"]), max_size=3)):
        place = draw(st.integers(0, len(key) - 1)) if draw(st.integers(0, 9)) == 0 else len(key)
        sign = draw(st.sampled_from(["", "", "", "", "", "", "+", "++", "~"]))
        value = draw(st.one_of(NUMBERS, NUMBERS, WORDS, LISTS, ODD))
        words.append(f"{sign}{key[:place]}{key[place + 1 :]}" + ("" if sign == "~" else f"={value}"))
    if draw(st.integers(0, 2)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(st.sampled_from(MISTAKES)))
    return words


def require_plan_or_sentence(words: list[str]) -> None:
    status, said, plans = said_and_planned(*words, *BASE)
    sweep = {"-m", "--multirun"} & set(words)
    assert status in (0, 2) and (sweep or len(plans) == (status == 0) or "--cfg" in words), (status, said)
    assert bool(said) == (status == 2)
    for sentence in said:
        assert sentence and "\n" not in sentence and "full_key" not in sentence and "Traceback" not in sentence
    if not sweep:
        for plan in plans:
            assert not unused(plan, words), f"{words} started a run that does not use {unused(plan, words)}"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(words=command_lines())
def test_any_command_line_gives_a_run_that_uses_every_value_or_one_sentence(words: list[str]):
    require_plan_or_sentence(words)


@pytest.mark.parametrize("word", MISTAKES)
def test_a_word_that_hydra_trips_over_is_one_sentence(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    require_plan_or_sentence([word])


NOT_USED = {
    "sampler.steps_per_iteration=50 sampler.n_paths=4": "sampler.n_paths",
    "sampler=vine sampler.trunk_steps=50 sampler.n_trunks=4": "sampler.n_trunks",
    "sampler=vine sampler.steps_per_iteration=5000 sampler.n_states=4": "sampler.n_states",
    "optimizer=cem sampler.n_paths=4": "sampler.n_paths",
    "optimizer=cma sampler.gamma=0.9": "sampler.gamma",
    "optimizer=cem device=cpu": "device",
    "policy.nonlinearity=tanh": "policy.nonlinearity",
    "policy.hidden_norm=2": "policy.hidden_norm",
    "env=gymnasium env.id=CartPole-v1 policy.initial_std=2": "policy.initial_std",
    "env=hopper env.feet=[foot_geom]": "env.feet",
    "optimizer.fisher_min_states=5": "optimizer.fisher_min_states",  # cart-pole takes every state
}


@pytest.mark.parametrize("words", NOT_USED)
def test_a_value_without_effect_is_refused(words: str):
    status, said, plans = said_and_planned(*words.split(), *BASE)
    assert (status, plans) == (2, []) and said[0].startswith(f"{NOT_USED[words]} would not be used: ")


def test_the_sentence_says_why_and_what_to_do():
    assert said_and_planned("sampler.steps_per_iteration=50", "sampler.n_paths=4", *BASE)[1] == [
        "sampler.n_paths would not be used: sampler.steps_per_iteration=50 is set; "
        "leave it out, or add sampler.steps_per_iteration=null"
    ]


def test_the_sentence_says_all_that_has_to_be_changed():
    words = ("env=hopper_v5", "sampler.n_paths=3")
    assert said_and_planned(*words, *BASE)[1] == [
        "sampler.n_paths would not be used: sampler.streams=4 run on without an end; "
        "leave it out, or add sampler.streams=null sampler.steps_per_iteration=null for whole episodes"
    ]
    assert said_and_planned(*words, "sampler.streams=null", "sampler.steps_per_iteration=null", *BASE)[0] == 0
    assert "needs no sampler; leave it out" in said_and_planned(*words, "optimizer=cem", *BASE)[1][0]


@pytest.mark.parametrize("words", ["sampler=vine sampler.n_paths=3", "sampler.n_trunks=3", "optimizer.population=3"])
def test_a_value_of_another_option_is_refused_as_a_key_that_does_not_exist(words: str):
    status, (sentence,), _ = said_and_planned(*words.split(), *BASE)
    assert status == 2 and f"{words.split()[-1][:-2]} does not exist with the chosen options; it belongs to" in sentence


@pytest.mark.parametrize(
    "words",
    [
        *("optimizer=cem optimizer.population=40", "optimizer=cem path_scale=0.5", "optimizer=cem sampler=single"),
        *("step_limit=30", "optimizer=cem step_limit=30", "iterations=3", "seed=5", "seed=${iterations}"),
        *("policy.hidden_sizes=[4] policy.nonlinearity=tanh", "env=walker env.feet=[foot_geom]"),
        *("sampler=vine iterations=${sampler.n_trunks} sampler.n_trunks=3", "env=hopper optimizer.fisher_min_states=5"),
    ],
)
def test_a_value_with_an_effect_is_not(words: str):
    status, said, plans = said_and_planned(*words.split(), *BASE)
    assert (status, said) == (0, []) and len(plans) == 1


def test_a_component_outside_the_package_says_itself_what_it_does_not_use(monkeypatch: pytest.MonkeyPatch):
    class Silent:
        pass

    class Outspoken:
        def unused(self) -> dict[str, str]:
            return {"depth": "mine.width=1"}

    assert unused_fields({"mine": [Silent(), Outspoken()]}) == {"mine.depth": "mine.width=1"}
    with pytest.raises(ConfigError, match=r"^mine\.depth would not be used: mine\.width=1; leave it out$"):
        require_used(["seed=3", "mine={depth: 3}"], {"mine.depth": "mine.width=1"})


def test_the_scale_is_refused_if_it_multiplies_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scaling, "LEAST", {})
    status, said, _ = said_and_planned("path_scale=0.5", *BASE)
    assert status == 2 and said[0].startswith("path_scale would not be used: ")


def test_what_the_oracle_calls_unused_is_what_the_command_refuses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planning, "require_used", lambda *_: None)
    (plan,) = said_and_planned("optimizer=cem", "sampler.n_paths=4", *BASE)[2]
    assert unused(plan, ["optimizer=cem", "sampler.n_paths=4"]) == ["sampler.n_paths"]


def test_the_keys_drawn_are_those_of_the_components():
    assert {f"policy.{field.name}" for field in fields(Mlp)} <= set(KEYS)
    assert {"optimizer.penalty", "optimizer.population", "sampler.n_trunks", "env.gravity", "env.feet"} <= set(KEYS)
    assert len(KEYS) > 70 and CONF.is_dir()
