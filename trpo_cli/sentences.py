"""What Hydra and OmegaConf object to, in one sentence with the nearest thing that exists."""

import re
from difflib import get_close_matches
from pathlib import Path

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from trpo_cli.config import explain_value


def explain(error: Exception, conf: Path) -> str:
    """One sentence about an override or a config file that cannot be composed."""
    if isinstance(error, MissingConfigException):
        return _missing_option(error, conf)
    if isinstance(error, OverrideParseException):
        return f"{error.override} is no override; write key=value, for example env=hopper or seed=1"
    if isinstance(error, OmegaConfBaseException):
        return explain_value(error)
    if isinstance(error, ConfigCompositionException):
        return _composition(error, conf)
    return str(error).splitlines()[0]


def _missing_option(error: MissingConfigException, conf: Path) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    options = sorted(
        path.relative_to(conf / group).with_suffix("").as_posix() for path in (conf / group).rglob("*.yaml")
    )
    if not group or not options:
        return str(error).splitlines()[0]
    near = get_close_matches(option, options, 1, 0.4)
    hint = f"did you mean {group}={near[0]}? " if near else ""
    return f"{group}={option} does not exist; {hint}choices: {', '.join(options)}"


def _composition(error: ConfigCompositionException, conf: Path) -> str:
    text = str(error)
    cause = error.__cause__
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1)
        if isinstance(cause, OmegaConfBaseException) and "not in" not in str(cause.msg or cause):
            return explain_value(cause)
        near = get_close_matches(key, _known_keys(conf), 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else "see trpo-train --help"
        return f"{key} does not exist; {hint}"
    return " ".join(text.split("\n")[:1])


def _known_keys(conf: Path) -> list[str]:
    """Dotted keys of every YAML file: a group's options share the group's prefix, the rest stand at the root."""
    keys: set[str] = set()
    for path in conf.rglob("*.yaml"):
        text = path.read_text()
        parent = path.relative_to(conf).parent.as_posix()
        prefix = "" if parent == "." or "@package _global_" in text else parent + "."
        stack: list[tuple[int, str]] = []
        for found in re.finditer(r"^( *)([a-z_]\w*):", text, re.M):
            depth = len(found.group(1))
            while stack and stack[-1][0] >= depth:
                stack.pop()
            stack.append((depth, found.group(2)))
            keys.add(prefix + ".".join(name for _, name in stack))
    return sorted(keys)
