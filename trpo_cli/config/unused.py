"""Values without effect: a run must not start with one on its command line, and none is part of its identity."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from trpo_cli.errors import ConfigError, SaysUnused


def unused_fields(components: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Every field that a component calls unused, as ``group.field``, with the reason."""
    return {
        f"{group}.{name}": reason
        for group, parts in components.items()
        for part in parts
        if isinstance(part, SaysUnused)
        for name, reason in part.unused().items()
    }


def require_used(overrides: Sequence[str], reasons: Mapping[str, str]) -> None:
    """Raise ConfigError for the first key of the command line that has no effect.

    reasons: by key; ``sampler.`` stands for every key of the sampler, and is told first
    """
    for key in given_keys(overrides):
        group, dot, _ = key.partition(".")
        if text := reasons.get(group + dot) or reasons.get(key):
            reason, _, instead = text.partition(", or ")
            raise ConfigError(
                f"{key} would not be used: {reason}; leave it out" + (f", or {instead}" if instead else "")
            )


def given_keys(overrides: Sequence[str]) -> Iterator[str]:
    """The keys that get a value; for ``sampler={n_paths: 3}`` it is ``sampler.n_paths``."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if not override.is_delete():
            yield from _leaves(override.key_or_group, override.value())


def _leaves(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key
