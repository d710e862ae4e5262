"""Which words of a command line nothing would read: a run must not start with a value that has no effect."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from trpo_cli.errors import ConfigError
from trpo_cli.policies.conv import Conv
from trpo_cli.policies.mlp import Mlp
from trpo_cli.sims.base import Discrete, Simulator

REFERENCE = re.compile(r"\$\{([\w.]+)\}")
SHARED = ("task", "path_scale")  # read by nobody but those that refer to them
# A number of the sampler, and the budget that wins over it where set.
BUDGETS = (("n_paths", "steps_per_iteration"), ("n_trunks", "trunk_steps"), ("n_states", "steps_per_iteration"))
ALWAYS = {"task.step_limit"}  # by trpo-eval at the least


def require_read(
    cfg: DictConfig,
    choices: Mapping[str, str],
    words: Sequence[str],
    parts: tuple[Simulator, Mlp | Conv, Any],
    searches: bool,
) -> None:
    """Raise ConfigError for the first of ``words`` whose value nothing reads.

    cfg: composed, its interpolations not resolved. parts: the simulator, the policy's settings, the sampler.
    searches: the optimizer runs episodes of its own and uses no sampler.
    """
    given = [key for word in words for key in _keys(word)]
    if not given:
        return
    unused = dict(_unused(*parts))
    if searches:
        search = f"optimizer={choices['optimizer']} runs one episode a candidate"
        sampler = f"{search} and takes nothing from the sampler"
        unused |= {key: sampler for key in given if key.partition(".")[0] == "sampler"}
        unused["device"] = f"{search} and computes nothing else"
    read = _read(cfg, unused, searches)
    for key in given:
        if key in unused:
            raise ConfigError(f"{key} would not be used: {unused[key]}; leave it out")
        if key.partition(".")[0] in SHARED and key not in read | ALWAYS:
            chosen = ", ".join(f"{group}={choices[group]}" for group in ("env", "sampler", "optimizer"))
            raise ConfigError(f"{key} would not be used: nothing refers to it with {chosen} and the values given")


def _keys(word: str) -> Iterator[str]:
    """The keys that a word gives a value to; those inside of ``task.vine={n_actions: 3}`` one by one."""
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return  # the name of a sweep's job, quoted for the shell
    if not override.is_delete() and not override.is_sweep_override():
        yield from _leaves(override.key_or_group, override.value())


def _leaves(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key


def _read(cfg: DictConfig, unused: Mapping[str, str], searches: bool) -> set[str]:
    """What the components' values and the root's refer to, directly or by way of others."""
    tree: dict[str, Any] = OmegaConf.to_container(cfg, resolve=False)  # type: ignore[assignment]
    values = dict(_flat(tree))
    skipped = (*SHARED, "sampler") if searches else SHARED
    waiting = [key for key in values if key.partition(".")[0] not in skipped and key not in unused]
    read: set[str] = set()
    while waiting:
        for name in REFERENCE.findall(str(values.get(waiting.pop()))):
            found = {key for key in values if key == name or key.startswith(f"{name}.")} - read
            read |= found
            waiting += found
    return read


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _unused(sim: Simulator, network: Mlp | Conv, sampler: Any) -> Iterator[tuple[str, str]]:
    """Values of components that others of their values, or of another component, leave without effect."""
    if isinstance(network, Mlp) and not network.hidden_sizes:
        for name in ("nonlinearity", "hidden_norm"):
            yield f"policy.{name}", "policy.hidden_sizes=[] is linear, with no hidden layer"
    if isinstance(sim.action_space, Discrete):
        yield "policy.initial_std", "the actions are discrete"
    for number, budget in BUDGETS:
        if (steps := getattr(sampler, budget, None)) is not None:
            yield f"sampler.{number}", f"sampler.{budget}={steps} is set, or add sampler.{budget}=null"
    if getattr(sim, "impact_cost", None) == 0:
        yield "env.feet", "env.impact_cost=0.0"
