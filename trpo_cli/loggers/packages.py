"""Whether the package that a logger needs is installed, before anything starts."""

from importlib.util import find_spec

from trpo_cli.errors import ConfigError


def require_package(module: str, option: str) -> None:
    """Raise ConfigError, with the command that installs it, unless ``module`` can be imported; it is not imported."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:  # without origin: a folder of this name, such as W&B's ./wandb
        raise ConfigError(
            f"logger={option} needs the package {module}, which is not installed: pip install 'trpo_cli[{option}]'"
        )
