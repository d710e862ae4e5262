"""From a YAML node to the component that it names."""

from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any, TypeVar

from omegaconf import DictConfig, IntegerNode, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from trpo_cli.config.messages import explain_value, is_whole, unknown_key
from trpo_cli.config.schema import Root
from trpo_cli.errors import ConfigError

Component = TypeVar("Component")


def build(node: DictConfig, group: str) -> Any:
    """The component that ``node`` describes: its ``_target_`` dataclass with the node's values.

    A whole number may be written as 1e4; it is a whole number in ``node`` too then. Unknown keys, wrong types, missing
    values and values out of range raise ConfigError naming ``group.field``.
    """
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise ConfigError(f"{group} has no _target_: choose one with {group}=…, see trpo-train --help")
    cls = _component(str(node["_target_"]), group)
    try:
        values = {str(k): v for k, v in OmegaConf.to_container(node, resolve=True).items()}  # type: ignore[union-attr]
        values.pop("_target_")
        known = [field.name for field in fields(cls)]
        if unknown := [key for key in values if key not in known]:
            of_the_run = [field.name for field in fields(Root) if field.name == unknown[0]]
            raise ConfigError(unknown_key(f"{group}.{unknown[0]}", [f"{group}.{key}" for key in known], of_the_run))
        typed = OmegaConf.structured(cls)
        with read_write(typed):
            for key, value in values.items():
                if isinstance(typed._get_node(key), IntegerNode) and is_whole(value):
                    node[key] = value = int(value)  # 1e4
                typed[key] = value
        return OmegaConf.to_object(typed)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_value(error, group)) from error


def _component(target: str, group: str) -> type:
    """The dataclass that a ``_target_`` names."""
    module, _, name = target.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except Exception as error:  # the module may raise anything when it is imported
        raise ConfigError(f"{group}._target_={target} cannot be imported ({error})") from error
    if not is_dataclass(cls):
        raise ConfigError(f"{group}._target_={target} must name a dataclass of hyperparameters")
    return cls  # type: ignore[return-value]
