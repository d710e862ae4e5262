"""The typed root of the configuration, and where ``conf/`` is."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trpo_cli.config.messages import explain_value, unknown_key
from trpo_cli.errors import ConfigError


@dataclass
class Eval:
    """Evaluations while training."""

    every: int | None = MISSING
    episodes: int = MISSING


@dataclass
class Root:
    """Every key that a composed configuration may have; the numbers stand in ``conf/``."""

    seed: int = MISSING
    iterations: int | None = MISSING
    total_steps: int | None = MISSING
    step_limit: int | None = MISSING
    name: str = MISSING
    outputs: str = MISSING
    workers: Any = MISSING
    device: str = MISSING
    checkpoint_every: int = MISSING
    max_refused: int | None = MISSING
    stop_at: float | None = MISSING
    eval: Eval = field(default_factory=Eval)
    init_from: str | None = MISSING
    init_checkpoint: str = MISSING
    average_over: float | None = MISSING
    path_scale: float = MISSING
    env: Any = MISSING
    policy: Any = MISSING
    sampler: Any = MISSING
    optimizer: Any = MISSING
    critic: Any = MISSING
    logger: Any = MISSING


GROUPS = ("env", "policy", "sampler", "optimizer", "critic")  # one component each; critic=none has none


def register_schema() -> None:
    """Make the typed root known to Hydra as ``schema``."""
    ConfigStore.instance().store(name="schema", node=Root)


def conf_dir() -> Path:
    """The folder of YAML files: inside the package in a wheel, next to it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"no conf/train.yaml inside or next to {package}: reinstall trpo_cli")


def require_known_root(cfg: DictConfig) -> None:
    """Refuse keys that the root does not have, and missing ones: Hydra lets ``+key=…`` and ``~key`` past the schema."""
    known = [field.name for field in fields(Root)]
    of_components = [f"{group}.{name}" for group in GROUPS for name in cfg.get(group) or {}]
    for key in map(str, cfg):
        if key not in known:
            raise ConfigError(unknown_key(key, known, of_components))
    for key in known:
        if key not in cfg.keys() or OmegaConf.is_missing(cfg, key):  # noqa: SIM118 - "in cfg" is false for a missing value
            raise ConfigError(f"{key} has no value; set {key}=…")


def plain_values(cfg: DictConfig) -> dict[str, Any]:
    """The whole configuration as plain values, interpolations resolved."""
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(explain_value(error)) from error
