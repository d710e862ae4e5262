"""The typed root of the configuration, and where ``conf/`` is."""

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trpo_cli.config.messages import explain_value, unknown_key
from trpo_cli.errors import ConfigError


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
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"no conf/train.yaml inside or beside {package}: reinstall trpo_cli")


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


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The whole configuration as plain values, interpolations resolved."""
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(explain_value(error)) from error
