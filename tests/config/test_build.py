"""The way from a YAML node to a component: what is refused, by name."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from compose import composed
from omegaconf import DictConfig, OmegaConf

from trpo_cli.config import schema
from trpo_cli.config.build import build
from trpo_cli.config.messages import to_word, unknown_key
from trpo_cli.config.schema import Root, conf_dir, plain_values, require_known_root
from trpo_cli.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """A component with a field of every kind."""

    whole: int
    number: float
    word: str
    switch: bool
    maybe: int | None
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.whole < 0:
            raise ConfigError(f"part.whole={self.whole} must be >= 0")


VALUES: dict[str, Any] = {"whole": 1, "number": 0.5, "word": "a", "switch": True, "maybe": None, "sizes": [1, 2]}


def node(**changes: Any) -> DictConfig:
    target = {"_target_": f"{Part.__module__}.Part"}
    return OmegaConf.create({key: v for key, v in {**target, **VALUES, **changes}.items() if v != "gone"})


def test_a_component_is_built_with_the_nodes_values():
    part = build(node(number=2, maybe=3), "part")
    assert part == Part(1, 2.0, "a", True, 3, [1, 2]) and isinstance(part.number, float)  # type: ignore[arg-type]


def test_a_whole_number_may_be_written_with_an_exponent():
    given = node(whole=1e4, maybe=2.0, number=3.0)
    part = build(given, "part")
    assert (part.whole, part.maybe) == (10_000, 2) and repr(given.whole) == "10000" and repr(given.number) == "3.0"


def test_interpolations_are_followed():
    root = OmegaConf.create({"other": {"n": 7}, "part": node(whole="${other.n}")})
    assert build(root.part, "part").whole == 7


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"whole": 10.5}, "part.whole=10.5 is not a whole number"),
        ({"whole": 1e300}, "part.whole=1e+300 is not a whole number"),
        ({"sizes": [64.0]}, "part.sizes[0]=64.0 is not a whole number; write 64"),
        ({"whole": "many"}, "part.whole=many is not a whole number"),
        ({"whole": True}, "part.whole=true is not a whole number"),
        ({"whole": None}, "part.whole=null is not possible: a value is needed"),
        ({"whole": -1}, "part.whole=-1 must be >= 0"),
        ({"whole": "gone"}, "part.whole has no value; set part.whole=…"),
        ({"whole": "???"}, "part.whole has no value; set part.whole=…"),
        ({"whole": "${nowhere}"}, "part.whole refers to ${nowhere}, which does not exist"),
        ({"number": "abc"}, "part.number=abc is not a number"),
        ({"number": [1]}, "part.number=[1] is not a number"),
        ({"word": [1]}, "part.word=[1] is not a word"),
        ({"switch": "maybe"}, "part.switch=maybe must be true or false"),
        ({"sizes": 5}, "part.sizes=5 is not a list; write 'part.sizes=[5]'"),
        ({"sizes": ["a"]}, "part.sizes[0]=a is not a whole number"),
        ({"sizes": [1, None]}, "part.sizes[1]=null is not possible: a value is needed"),
        ({"sizes": [[1]]}, "part.sizes[0]=[1] is not a whole number"),
        ({"sizes": {"a": 1}}, "part.sizes={'a': 1} is not a list; write 'part.sizes=[{'a': 1}]'"),
        ({"whoel": 3}, "part.whoel does not exist; did you mean part.whole?"),
        ({"_target_": "nowhere.Thing"}, "part._target_=nowhere.Thing cannot be imported (No module named 'nowhere')"),
        ({"_target_": "pathlib.Path"}, "part._target_=pathlib.Path must name a dataclass of hyperparameters"),
        ({"_target_": "gone"}, "part has no _target_: choose one with part=…, see trpo-train --help"),
    ],
)
def test_what_is_wrong_is_named_with_its_field_and_value(changes: dict[str, Any], sentence: str):
    with pytest.raises(ConfigError) as caught:
        build(node(**changes), "part")
    assert str(caught.value) == sentence


def test_a_name_that_is_close_is_proposed_and_otherwise_all_are():
    known = ["optimizer.kl_limit", "optimizer.cg_damping"]
    assert unknown_key("optimizer.kl_limt", known).endswith("; did you mean optimizer.kl_limit?")
    assert unknown_key("optimizer.foo", known).endswith("; known here: optimizer.kl_limit, optimizer.cg_damping")


@pytest.mark.parametrize(("value", "word"), [(None, "null"), (True, "true"), (False, "false"), (0.5, "0.5"), ("", "")])
def test_values_are_shown_as_they_are_written(value: object, word: str):
    assert to_word(value) == word


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["+foo=1"], "foo does not exist; known here: " + ", ".join(field.name for field in fields(Root))),
        (["+iteration=1"], "iteration does not exist; did you mean iterations?"),
        (["+task.step_limit=1"], "task does not exist; known here: " + ", ".join(field.name for field in fields(Root))),
        (["~seed"], "seed has no value; set seed=…"),
        (["iterations=???"], "iterations has no value; set iterations=…"),
    ],
)
def test_the_root_has_all_of_its_keys_and_no_others(words: list[str], sentence: str):
    cfg, _ = composed(*words)
    with pytest.raises(ConfigError) as caught:
        require_known_root(cfg)
    assert str(caught.value) == sentence


def test_resolving_names_what_cannot_be_resolved():
    with pytest.raises(ConfigError, match=r"^name refers to \$\{nowhere\}, which does not exist$"):
        plain_values(OmegaConf.create({"name": "${nowhere}"}))
    assert plain_values(composed()[0])["sampler"]["gamma"] == 0.99


def test_the_folder_of_yaml_files_is_inside_the_package_or_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert (conf_dir() / "train.yaml").is_file()
    (tmp_path / "package").mkdir()
    monkeypatch.setattr(schema, "__file__", str(tmp_path / "package" / "config" / "schema.py"))
    with pytest.raises(ConfigError, match=r"no conf/train.yaml inside or next to .*package: reinstall trpo_cli"):
        conf_dir()
    for parent in (tmp_path, tmp_path / "package"):  # the package's own wins
        (parent / "conf").mkdir()
        (parent / "conf/train.yaml").touch()
        assert conf_dir() == parent / "conf"
