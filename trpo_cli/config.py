"""The typed root of the configuration, where ``conf/`` is, and the way from a YAML node to the component it names."""

import re
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from trpo_cli.errors import ConfigError

Component = TypeVar("Component")


@dataclass
class SingleDefaults:
    """A task's budget for single paths."""

    n_paths: int = MISSING
    steps_per_iteration: int | None = MISSING


@dataclass
class VineDefaults:
    """A task's budget for vines."""

    n_trunks: int = MISSING
    trunk_steps: int | None = MISSING
    n_states: int = MISSING
    steps_per_iteration: int | None = MISSING
    n_actions: int = MISSING
    branch_length: int = MISSING
    proposal: str = MISSING


@dataclass
class SearchDefaults:
    """A task's settings for derivative-free searches."""

    population: int = MISSING
    initial_variance: float = MISSING
    extra_variance: float = MISSING
    extra_iterations: int = MISSING


@dataclass
class Task:
    """What ``env=`` brings along for the other groups, each of which reads it by interpolation."""

    step_limit: int = MISSING  # may be left to the simulator
    iterations: int = MISSING
    hidden_sizes: list[int] = MISSING
    nonlinearity: str = MISSING
    precision: str = MISSING
    input_scale: Any = MISSING
    input_clip: float = MISSING
    fisher_fraction: float = MISSING
    gamma: float = MISSING
    single: SingleDefaults = MISSING
    vine: VineDefaults = MISSING
    search: SearchDefaults = MISSING


@dataclass
class Root:
    """Every key that a composed configuration may have; the numbers stand in ``conf/``."""

    seed: int = MISSING
    iterations: int = MISSING
    name: str = MISSING
    outputs: str = MISSING
    workers: Any = MISSING
    device: str = MISSING
    checkpoint_every: int = MISSING
    path_scale: float = MISSING
    env: Any = MISSING
    task: Task = MISSING
    policy: Any = MISSING
    sampler: Any = MISSING
    optimizer: Any = MISSING


BY_SIMULATOR = "task.step_limit"  # what may be missing where the simulator knows it
RESULT_KEYS = ("seed", "env", "task", "policy", "sampler", "optimizer")  # what decides the rows of a run


LEAST_POPULATION = 20  # of a scaled-down search: a tenth of it is still two candidates, which have a variance


def register_schema() -> None:
    """Make the typed root known to Hydra as ``schema``, and ``${scaled_population:n,scale}`` to OmegaConf."""
    ConfigStore.instance().store(name="schema", node=Root)
    OmegaConf.register_new_resolver("scaled_population", _scaled_population, replace=True)


def _scaled_population(population: int, scale: float) -> int:
    return population if scale == 1 else max(round(population * scale), LEAST_POPULATION)


def conf_dir() -> Path:
    """The folder of YAML files: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"no conf/train.yaml inside or beside {package}: reinstall trpo_cli")


def build(node: DictConfig, group: str) -> Any:
    """The component that ``node`` describes: its ``_target_`` dataclass with the node's values.

    Unknown keys, wrong types, missing values and values out of range raise ConfigError naming ``group.field``.
    """
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise ConfigError(f"{group} has no _target_: choose one with {group}=…, see trpo-train --help")
    cls = _component(str(node["_target_"]), group)
    try:
        values = {str(k): v for k, v in OmegaConf.to_container(node, resolve=True).items()}  # type: ignore[union-attr]
        values.pop("_target_")
        known = [field.name for field in fields(cls)]
        if unknown := [key for key in values if key not in known]:
            raise ConfigError(unknown_key(f"{group}.{unknown[0]}", [f"{group}.{key}" for key in known]))
        typed = OmegaConf.structured(cls)
        with read_write(typed):
            for key, value in values.items():
                typed[key] = value
        return OmegaConf.to_object(typed)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_value(error, group)) from error


def _component(target: str, group: str) -> type:
    """The dataclass that a ``_target_`` names."""
    module, _, name = target.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except Exception as error:  # whatever the module does when it is imported
        raise ConfigError(f"{group}._target_={target} cannot be imported ({error})") from error
    if not is_dataclass(cls):
        raise ConfigError(f"{group}._target_={target} must name a dataclass of hyperparameters")
    return cls  # type: ignore[return-value]


def require_known_root(cfg: DictConfig) -> None:
    """Refuse keys that no one reads, and missing ones: Hydra lets ``+key=…`` and ``~key`` past the schema."""
    try:
        _require_keys(cfg, Root, "")
    except OmegaConfBaseException as error:
        raise ConfigError(explain_value(error)) from error


def _require_keys(node: DictConfig, schema: type, prefix: str) -> None:
    known = [prefix + field.name for field in fields(schema)]
    for key in [f"{prefix}{name!s}" for name in node]:
        if key not in known:
            raise ConfigError(unknown_key(key, known))
    for field in fields(schema):
        missing = OmegaConf.is_missing(node, field.name) and prefix + field.name != BY_SIMULATOR
        if field.name not in node.keys() or missing:  # noqa: SIM118 - missing are keys
            raise ConfigError(f"{prefix}{field.name} has no value; set {prefix}{field.name}=…")
        if is_dataclass(field.type):
            _require_keys(node[field.name], field.type, f"{prefix}{field.name}.")  # type: ignore[arg-type]


def unknown_key(key: str, known: list[str]) -> str:
    """One sentence about a key that does not exist, with the nearest one that does."""
    names = {name.rpartition(".")[2]: name for name in known}
    near = get_close_matches(key.rpartition(".")[2], names, 1, 0.5)
    hint = f"did you mean {names[near[0]]}?" if near else "known here: " + ", ".join(known)
    return f"{key} does not exist; {hint}"


# What OmegaConf says: what it means to whoever wrote the value.
_COMPLAINTS = {
    "could not be converted to Integer": "is not a whole number",
    "could not be converted to Float": "is not a number",
    "is not a valid bool": "is neither true nor false",
    "is not Optional|Incompatible value 'None'|NoneType is not a subclass": "cannot be: it needs a value",
    "is not a ListConfig": "is not a list; write {key}=[{value}]",
    "Cannot convert '.*' to string": "is not a word",
    "Cannot assign .* to Dict": "is not a section of keys; write {key}={{name: value}}",
    "is not a subclass of": "is not a section of keys; set {key}.…=… for each key",
}


def explain_value(error: OmegaConfBaseException, prefix: str = "") -> str:
    """One sentence about a value that OmegaConf refused."""
    key = str(error.full_key or error.key or "")
    if prefix and not key.startswith(prefix):
        key = f"{prefix}.{key}" if key else prefix
    reason = str(error.msg or error).splitlines()[0].rstrip(".")
    if "MISSING" in type(error).__name__.upper() or "missing mandatory value" in reason.lower():
        return f"{key} has no value; set {key}=…"
    for said, meant in _COMPLAINTS.items():
        if re.search(said, reason) and not reason.startswith("While dereferencing"):
            value = shown(error.value)
            return f"{key}={value} {meant.format(key=key, value=value)}"
    if "Cannot merge" in reason:
        return f"{key} is a list, or a section of keys, and cannot become the other"
    if "does not support deletion" in reason:
        return f"{key} cannot be taken out; set {key}=… to another value"
    if found := re.search("Interpolation key '(.*)' not found", reason):
        return f"{key} refers to ${{{found.group(1)}}}, which does not exist"
    return f"{key}: {reason}"


def shown(value: object) -> str:
    """A value as it is written on the command line."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The whole configuration as plain values, interpolations resolved."""
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(explain_value(error)) from error
