"""A component that lacks a member of its protocol is refused by name, before anything starts."""

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from compose import composed
from omegaconf import OmegaConf, open_dict

from trpo_cli.config.plan import plan
from trpo_cli.errors import ConfigError


@dataclass(frozen=True)
class Searches:
    """A search without `mean`."""

    population: int

    def start(self, theta: Any) -> Any: ...
    def ask(self, state: Any, rng: Any) -> Any: ...
    def tell(self, state: Any, thetas: Any, returns: Any) -> Any: ...


@dataclass(frozen=True)
class Updates:
    """An update that does not say what it needs."""

    population: int

    def __call__(self, *_: Any) -> Any: ...


@pytest.mark.parametrize(
    ("group", "cls", "lacking"),
    [
        ("optimizer", Searches, "mean"),
        ("optimizer", Updates, "needs_whole_paths"),
        ("policy", Updates, "build"),
        ("sampler", Updates, "check"),
        ("env", Updates, "action_space"),
    ],
)
def test_what_is_lacking_is_named(group: str, cls: type, lacking: str, monkeypatch: pytest.MonkeyPatch):
    module = ModuleType("strangers")
    module.__dict__[cls.__name__] = cls
    monkeypatch.setitem(sys.modules, "strangers", module)
    cfg, choices = composed()
    with open_dict(cfg):
        cfg[group] = OmegaConf.create({"_target_": f"strangers.{cls.__name__}", "population": 4})
    with pytest.raises(ConfigError, match=rf"^{group}: .* {cls.__name__} lacks .*\b{lacking}\b"):
        plan(cfg, choices)
