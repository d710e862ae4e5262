"""What a user writes to name a Gymnasium environment: its arguments and its id, and the nearest one that exists."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from gymnasium.envs.registration import registry

from trpo_cli.errors import ConfigError

# Packages of well-known environments. They are registered when the package is imported.
PACKAGES = {
    "ALE": "ale_py",
    "MiniGrid": "minigrid",
    "BabyAI": "minigrid",
    "Fetch": "gymnasium_robotics",
    "PointMaze": "gymnasium_robotics",
}


def require_arguments(kwargs: Mapping[str, Any]) -> None:
    """Raise ConfigError for an argument of ``gymnasium.make`` that training cannot use."""
    if "max_episode_steps" in kwargs:
        raise ConfigError(
            "env.kwargs.max_episode_steps is not an argument of the environment: set step_limit=… instead"
        )
    if kwargs.get("render_mode") == "human":
        raise ConfigError(
            "env.kwargs.render_mode=human would open a window for each of many environments: leave it out, and film "
            "what was learnt with trpo-eval run=… video=film.mp4"
        )


def way_to(env_id: str) -> str:
    """What to write instead of an id that is not registered."""
    package, _, name = env_id.rpartition(":")
    prefix = f"{package}:" if package else ""
    if near := _nearest(name):
        return f"did you mean env.id={prefix}{near}?"
    if package:
        return f"the package {package} does not register it"
    return f"if another package registers it, write env.id={with_package(name) or f'package:{name}'}"


def with_package(name: str) -> str | None:
    """``ale_py:ALE/Pong-v5`` for ``ALE/Pong-v5``; None if the package is not known."""
    return next((f"{package}:{name}" for start, package in PACKAGES.items() if name.startswith(start)), None)


def _nearest(name: str) -> str | None:
    """The id that is written most like ``name``; of several versions the newest."""
    base, version = _parts(name)
    versions: dict[str, dict[int, str]] = {}
    for known in registry:
        known_base, known_version = _parts(known)
        versions.setdefault(known_base, {})[known_version] = known
    if base not in versions:
        found = get_close_matches(base, versions, 1, 0.8)
        base = found[0] if found else ""
    ids = versions.get(base, {})
    return ids.get(version) or (ids[max(ids)] if ids else None)


def _parts(name: str) -> tuple[str, int]:
    """``CartPole-v1`` as ``("cartpole", 1)``; without a version it is -1."""
    base, _, version = name.rpartition("-v")
    return (base.lower(), int(version)) if base and version.isdigit() else (name.lower(), -1)
