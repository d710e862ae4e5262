"""The loggers of a run, from the options of ``logger=``."""

from typing import Any

from omegaconf import DictConfig

from trpo_cli.config.build import build
from trpo_cli.config.members import require_members
from trpo_cli.config.messages import to_word
from trpo_cli.errors import ConfigError
from trpo_cli.loggers.background import Background
from trpo_cli.runs.logger import InProcess, Logger


def build_loggers(node: Any) -> list[Logger]:
    """A logger for each key of ``node``, the section ``logger``: in a process of its own unless it is `InProcess`."""
    if not isinstance(node, DictConfig):
        raise ConfigError(f"logger={to_word(node)} is no option; several are 'logger=[tensorboard,wandb]'")
    loggers: list[Logger] = []
    for name in map(str, node):
        key = f"logger.{name}"
        if not isinstance(node[name], DictConfig):
            raise ConfigError(
                f"{key}={to_word(node[name])} is not a logger's section of keys; the file of an option of your own "
                "begins with # @package logger.NAME"
            )
        logger = build(node[name], key)
        require_members(logger, Logger, f"{key}: it")
        loggers.append(logger if isinstance(logger, InProcess) else Background(key, logger))
    return loggers
