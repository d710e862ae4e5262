"""What Hydra and OmegaConf object to, in one sentence with the nearest thing that exists."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from trpo_cli.config.messages import explain_value, unknown_key

HELP = "see trpo-train --help"


def explain(error: Exception, conf: Path, words: Sequence[str]) -> str:
    """One sentence about an override or a config file that cannot be composed.

    conf: folder of the YAML files. words: the command line's.
    """
    cause = error.__cause__ or error.__context__
    text = str(error)
    if isinstance(error, MissingConfigException):
        return _missing_option(error, conf)
    if isinstance(error, OverrideParseException):
        return _no_override(str(error.override))
    if isinstance(error, OmegaConfBaseException):
        return explain_value(error)
    if mark := getattr(error, "problem_mark", None):  # PyYAML's
        return f"{mark.name}, line {mark.line + 1}, is no YAML: {getattr(error, 'problem', '')}"
    if found := re.search(r"Ambiguous value for argument '([^']+)'|Sweep parameters '([^']+)' requires", text):
        return f"{found.group(1) or found.group(2)} is a sweep; add -m to run one job for each value"
    if "Config group override must be a string" in text:
        return _no_option(words, conf)
    if found := re.search(
        r"Multiple values for ([^ ]+)\. |^([^ ]+) appears more than once|supported: '\++([^=']+)", text
    ):
        group = next(name for name in found.groups() if name)
        return f"{group} is chosen already; write {group}=… without a + to choose another"
    if found := re.search(r"An item is already at '([^']+)'", text):
        return f"{found.group(1)} exists already; write {found.group(1)}=… without a +"
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        found = re.match(r"In '([^']+)':", text)
        where = f" (in {found.group(1)}.yaml)" if found else ""
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and (key := _refused_key(text, cause)):
            return _unknown_key(key, conf) + where
        return explain_value(cause) + where
    if found := re.search(r"Could not (?:override|delete from config\.) '([^']+)", text):
        return _unknown_key(found.group(1), conf)
    return text.splitlines()[0] if text else f"{type(error).__name__} while composing the configuration"


def _refused_key(text: str, cause: OmegaConfBaseException) -> str | None:
    found = re.search(r"Could not override '([^']+)'", text)
    return found.group(1) if found else cause.full_key


def _no_override(word: str) -> str:
    return f"{word} is no override; write key=value, for example env=hopper or seed=1"


def _no_option(words: Sequence[str], conf: Path) -> str:
    """A group that was given a number or nothing in place of the name of an option."""
    for word in words:
        group, _, option = word.lstrip("+").partition("=")
        options = _options(conf, group.partition("@")[0])
        if not group:
            return _no_override(word)
        if options and option not in options:
            return f"{group}={option} does not exist; choices: {', '.join(options)}"
    return f"an option is not a name; {HELP}"


def _missing_option(error: MissingConfigException, conf: Path) -> str:
    """``env=hoper does not exist``: the group is the first folder, the option the rest."""
    missing = error.missing_cfg_file or ""
    group, _, option = missing.rpartition("/") if missing.startswith("hydra/") else missing.partition("/")
    if "/" not in missing:
        return str(error).splitlines()[0]
    if not (options := _options(conf, group)):
        return f"{group}={option} does not exist; {HELP}"
    near = get_close_matches(option, options, 1, 0.4)
    hint = f"did you mean {group}={near[0]}? " if near else ""
    return f"{group}={option} does not exist; {hint}choices: {', '.join(options)}"


def _options(conf: Path, group: str) -> list[str]:
    folder = conf / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def _unknown_key(key: str, conf: Path) -> str:
    """A key that the chosen options do not have: the option that has it, or the nearest key there is."""
    groups = [folder.name for folder in conf.iterdir() if folder.is_dir()]
    known = _known_keys(conf)
    if "@" in key:
        return f"{key}: options stay in their own group; write {key.partition('@')[0]}=…"
    if key in groups:
        return f"{key} is a group: choose one of its options, {key}=…, or set one of the keys, {key}.…=…"
    if options := sorted(known.get(key, ())):
        return f"{key} does not exist with the chosen options; it belongs to {', '.join(options)}"
    section = key.rpartition(".")[0]
    if siblings := [name for name in known if section and name.rpartition(".")[0] == section]:
        return unknown_key(key, siblings)
    others = [name for name in known if name != key]
    near = get_close_matches(key, groups, 1, 0.7) or get_close_matches(key, others, 1, 0.5)
    return f"{key} does not exist; did you mean {near[0]}?" if near else f"{key} does not exist; {HELP}"


def _known_keys(conf: Path) -> dict[str, set[str]]:
    """Dotted key: the options that define it. A group's options share its prefix, global ones have none."""
    keys: dict[str, set[str]] = {}
    for path in conf.rglob("*.yaml"):
        text = path.read_text()
        group, _, option = path.relative_to(conf).with_suffix("").as_posix().partition("/")
        if group == "experiment":
            continue  # sets keys of others and has none of its own
        prefix = "" if not option or "@package _global_" in text else group + "."
        stack: list[tuple[int, str]] = []
        for found in re.finditer(r"^( *)([a-z_]\w*):", text, re.M):
            depth = len(found.group(1))
            while stack and stack[-1][0] >= depth:
                stack.pop()
            stack.append((depth, found.group(2)))
            if option:
                keys.setdefault(prefix + ".".join(name for _, name in stack), set()).add(f"{group}={option}")
            elif not depth:
                keys.setdefault(found.group(2), set())  # the root's own
    return keys
