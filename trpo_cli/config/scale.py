"""``path_scale``: one number that makes the batches of any configuration larger or smaller."""

from dataclasses import fields, replace
from typing import Any

from trpo_cli.errors import ConfigError

# Numbers of an iteration that are multiplied, and what multiplying leaves at least.
LEAST = {
    "n_paths": 2,  # one path alone would be its own baseline
    "steps_per_iteration": 1,
    "n_trunks": 1,
    "trunk_steps": 1,
    "n_states": 1,
    "population": 20,  # of a search: its elite tenth is two candidates, the fewest that have a variance
}


def scale_numbers(component: Any, scale: float) -> tuple[Any, dict[str, int]]:
    """The component with its numbers multiplied and rounded, and those numbers by name; at scale 1 as it is."""
    scalable = [field.name for field in fields(component) if field.name in LEAST]
    numbers = {name: value for name in scalable if (value := getattr(component, name)) is not None}
    if scale != 1:
        least = {name: min(value, LEAST[name]) for name, value in numbers.items()}  # never above what is configured
        numbers = {name: max(round(value * scale), least[name]) for name, value in numbers.items()}
        try:
            component = replace(component, **numbers)
        except ConfigError as error:
            changed = (f"{name} from {getattr(component, name)} to {value}" for name, value in numbers.items())
            raise ConfigError(f"{error}; path_scale={scale:g} has changed {', '.join(changed)}") from error
    return component, numbers
