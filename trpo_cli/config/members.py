"""Whether a component has the members that its protocol asks for, before anything starts."""

from typing import Any

from trpo_cli.errors import ConfigError


def require_members(component: Any, protocol: type, what: str) -> None:
    """Raise ConfigError if ``component`` lacks a member of ``protocol``; what: the key that chose it, and its kind."""
    needed = [name for name in vars(protocol) if name == "__call__" or not name.startswith("_")]
    if lacking := [name for name in needed if not hasattr(component, name)]:
        raise ConfigError(
            f"{what} needs {', '.join(needed)}, and {type(component).__name__} lacks {', '.join(lacking)}"
        )
