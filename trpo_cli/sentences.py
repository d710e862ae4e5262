"""What Hydra and OmegaConf object to, in one sentence with the nearest thing that exists."""

import re
from difflib import get_close_matches
from pathlib import Path

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from trpo_cli.config import explain_value


def explain(error: Exception, conf: Path) -> str:
    """One sentence about an override or a config file that cannot be composed."""
    cause = error.__cause__
    text = str(error)
    if isinstance(error, MissingConfigException):
        return _missing_option(error, conf)
    if isinstance(error, OverrideParseException):
        return f"{error.override} is no override; write key=value, for example env=hopper or seed=1"
    if isinstance(error, OmegaConfBaseException):
        return explain_value(error)
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{found.group(1)} is a sweep; add -m to run one job for each value"
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and (key := _refused_key(text, cause)):
            return _unknown_key(key, conf)
        return explain_value(cause)
    if found := re.search(r"Could not override '([^'@]+)", text):
        return _unknown_key(found.group(1), conf)
    return text.splitlines()[0] if text else f"{type(error).__name__} while composing the configuration"


def _refused_key(text: str, cause: OmegaConfBaseException) -> str | None:
    found = re.search(r"Could not override '([^']+)'", text)
    return found.group(1) if found else cause.full_key


def _missing_option(error: MissingConfigException, conf: Path) -> str:
    """``env=hoper does not exist``: the group is the first folder, the option the rest."""
    group, _, option = (error.missing_cfg_file or "").partition("/")
    options = _options(conf, group)
    if not option or not options:
        return str(error).splitlines()[0]
    near = get_close_matches(option, options, 1, 0.4)
    hint = f"did you mean {group}={near[0]}? " if near else ""
    return f"{group}={option} does not exist; {hint}choices: {', '.join(options)}"


def _options(conf: Path, group: str) -> list[str]:
    return sorted(path.relative_to(conf / group).with_suffix("").as_posix() for path in (conf / group).rglob("*.yaml"))


def _unknown_key(key: str, conf: Path) -> str:
    """A key that the chosen options do not have: the option that has it, or the nearest key there is."""
    known = _known_keys(conf)
    if options := sorted(known.get(key, ())):
        return f"{key} does not exist with the chosen options; it belongs to {' and '.join(options)}"
    groups = [folder.name for folder in conf.iterdir() if folder.is_dir()]
    near = get_close_matches(key, groups, 1, 0.7) or get_close_matches(key, known, 1, 0.5)
    return f"{key} does not exist; did you mean {near[0]}?" if near else f"{key} does not exist; see trpo-train --help"


def _known_keys(conf: Path) -> dict[str, set[str]]:
    """Dotted key: the options that define it. A group's options share its prefix, global ones have none."""
    keys: dict[str, set[str]] = {}
    for path in conf.rglob("*.yaml"):
        text = path.read_text()
        group, _, option = path.relative_to(conf).with_suffix("").as_posix().partition("/")
        prefix = "" if not option or "@package _global_" in text else group + "."
        stack: list[tuple[int, str]] = []
        for found in re.finditer(r"^( *)([a-z_]\w*):", text, re.M):
            depth = len(found.group(1))
            while stack and stack[-1][0] >= depth:
                stack.pop()
            stack.append((depth, found.group(2)))
            keys.setdefault(prefix + ".".join(name for _, name in stack), set()).add(f"{group}={option}")
    return keys
