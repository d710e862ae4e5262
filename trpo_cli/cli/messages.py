"""One sentence for what Hydra or OmegaConf refuses, with the nearest name that exists."""

import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import MarkedYAMLError

from trpo_cli.cli.help import GROUPS, options
from trpo_cli.cli.words import own_folders, quote
from trpo_cli.config.messages import explain_value, nearest_keys, unknown_key
from trpo_cli.config.other_words import names_here
from trpo_cli.config.schema import GROUPS as COMPONENTS
from trpo_cli.config.schema import register_schema
from trpo_cli.runs.files import flat

HELP = "see trpo-train --help"
RATE = "no method here has a learning rate: optimizer.kl_limit, optimizer.penalty or optimizer.l2_limit bounds a step"
# What no key does.
NO_KEY = {
    **dict.fromkeys(("learning_rate", "lr", "step_size"), RATE),
    "resume": "the same command resumes a run, and trpo-train continue=DIRECTORY one in any directory",
    **dict.fromkeys(("ent_coef", "entropy_coef", "entropy_coeff"), "there is no bonus for entropy"),
    **dict.fromkeys(("clip_range", "clip_coef", "clip_eps", "max_grad_norm"), RATE),
    **dict.fromkeys(("vf_coef", "value_coef"), "the value function is fitted by itself: critic=mlp"),
    **dict.fromkeys(("algo", "algorithm", "method"), "the method is optimizer=…"),
    **dict.fromkeys(("verbose", "log_interval"), "every iteration is a row of progress.jsonl"),
    "policy_kwargs": "every key of the network is set by its name: 'policy.hidden_sizes=[64,64]'",
    "render": "films are made by trpo-eval run=… video=film.mp4",
    "video": "films are made by trpo-eval run=… video=film.mp4",
    "record": "films are made by trpo-eval run=… video=film.mp4",
    "eval": "trpo-eval run=… scores what a run has learnt",
    "tensorboard": "logger=tensorboard, the default, writes what tensorboard --logdir outputs shows",
    **{word: f"'logger=[tensorboard,{word}]' logs there too" for word in ("wandb", "mlflow")},
}


def explain(error: Exception, conf: Path, words: Sequence[str]) -> str:
    """One sentence about an override or a config file that cannot be composed.

    conf: folder of the YAML files. words: the words of the command line.
    """
    cause = error.__cause__ or error.__context__
    text = str(error)
    if isinstance(error, MissingConfigException):
        return _missing_option(error, conf, own_folders(words))
    if isinstance(error, OverrideParseException):
        return _no_override(str(error.override))
    if isinstance(error, OmegaConfBaseException):
        return explain_value(error)
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return f"{mark.name}, line {mark.line + 1}, is not valid YAML: {error.problem or ''}"
    if found := re.search(r"Ambiguous value for argument '([^']+)'|Sweep parameters '([^']+)' requires", text):
        word = found.group(1) or found.group(2)
        if word.startswith("logger="):
            return f"{word} has several values; write 'logger=[{word.partition('=')[2]}]' for all of them"
        return f"{word} has several values; add -m to run one job for each"
    if "Config group override must be a string" in text:
        return _no_option(words, conf)
    if found := re.search(
        r"Multiple values for ([^ ]+)\. |^([^ ]+) appears more than once|supported: '\++([^=']+)", text
    ):
        group = next(name for name in found.groups() if name)
        return f"{group} has an option already; write {group}=… without a + to choose another"
    if found := re.search(r"Error resolving interpolation '(.*)', possible interpolation keys: (.*)", text):
        return _no_single_option(found.group(1), found.group(2).split(", "), words)
    if found := re.search(r"An item is already at '([^']+)'", text):
        return f"{found.group(1)} exists already; write {found.group(1)}=… without a +"
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        found = re.match(r"In '([^']+)':", text)
        where = f" (in {found.group(1)}.yaml)" if found else ""
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and (key := _refused_key(text, cause)):
            return _unknown_key(key, conf, words) + where
        return explain_value(cause) + where
    if found := re.search(r"Could not (?:override|delete from config\.) '([^']+)", text):
        return _unknown_key(found.group(1), conf, words)
    return text.splitlines()[0] if text else f"{type(error).__name__} while composing the configuration"


def _refused_key(text: str, cause: OmegaConfBaseException) -> str | None:
    found = re.search(r"Could not override '([^']+)'", text)
    return found.group(1) if found else cause.full_key


def _no_override(word: str) -> str:
    """For a word that Hydra cannot read."""
    word = word.removeprefix("++")  # which `as_typed` adds
    key, equals, value = word.partition("=")
    if not equals or not re.fullmatch(r"\+{0,2}\w[\w./@]*", key):
        return f"{word} is not an override; write key=value, for example env=hopper or seed=1"
    if value.startswith("~"):
        return f"{word}: your shell did not replace ~ by your home directory; write {key}=$HOME{value[1:]}"
    if re.fullmatch(r"\([^()]*\)", value):
        return f"{word} is not a list; write '{key}=[{value[1:-1]}]'"
    if value.startswith(("[", "{", "'", '"')):
        return f"{word} cannot be read; close its brackets and quotes, and put quotes around special characters in it"
    return f"{word} has characters that need quotes; write {shlex.quote(f'{key}={quote(value)}')}"


def _no_option(words: Sequence[str], conf: Path) -> str:
    """For a group that was given a number, or nothing, instead of the name of an option."""
    for word in words:
        group, _, option = word.lstrip("+").partition("=")
        names = options(conf, group.partition("@")[0], own_folders(words))
        if not group:
            return _no_override(word)
        if names and option not in names:
            return f"{group}={option} does not exist; choices: {', '.join(names)}"
    return f"a group needs the name of one of its options; {HELP}"


def _no_single_option(pair: str, known: Sequence[str], words: Sequence[str]) -> str:
    """For a group with no option or with a list, so that a ``pair`` such as ``${env}-${policy}`` names no file."""
    group = next((name for name in re.findall(r"\$\{(\w+)\}", pair) if name not in known), pair)
    if any(word.startswith(f"{group}=[") for word in words):
        return f"{group}=… takes one option, not a list; add -m and drop the brackets to sweep over several"
    return f"{group} has no value; set {group}=…"


def _missing_option(error: MissingConfigException, conf: Path, own: Sequence[Path]) -> str:
    """``env=hoper does not exist``: the group is the first folder, the option the rest."""
    missing = error.missing_cfg_file or ""
    group, _, option = missing.rpartition("/") if missing.startswith("hydra/") else missing.partition("/")
    if "/" not in missing:
        return str(error).splitlines()[0]
    if not (names := options(conf, group, own)):
        return f"{group}={option} does not exist; {HELP}"
    near = get_close_matches(option.lower().replace("-", "_"), names, 1, 0.6)
    version = re.search(r"-v\d+$", option)
    if group == "env" and version and not (near and near[0].endswith(version.group().replace("-", "_"))):
        from trpo_cli.sims.gymnasium_names import with_package

        near = [f"gymnasium env.id={with_package(option) or option}"]
    hint = f"did you mean {group}={near[0]}? " if near else ""
    more = "; any other of Gymnasium: env=gymnasium env.id=…" if group == "env" and option and not near else ""
    return f"{group}={option} does not exist; {hint}choices: {', '.join(names)}{more}"


def _unknown_key(key: str, conf: Path, words: Sequence[str]) -> str:
    """For a key that the chosen options do not have: the option that has it, or the nearest key that can be set."""
    if "@" in key:
        return f"{key}: an option cannot be put elsewhere; write {key.partition('@')[0]}=…"
    if key in GROUPS:
        return f"{key} is a group: choose one of its options, {key}=…, or set one of the keys, {key}.…=…"
    if owners := _owners(key, conf):
        return f"{key} does not exist with the chosen options; it belongs to {owners}"
    root, of_components = _can_be_set(conf, words)
    section = key.rpartition(".")[0]
    if siblings := [name for name in of_components if section and name.rpartition(".")[0] == section]:
        return unknown_key(key, siblings, root)
    if near := get_close_matches(key, GROUPS, 1, 0.7) or nearest_keys(key, [*root, *of_components]):
        return f"{key} does not exist; did you mean {' or '.join(near)}?"
    last = key.rpartition(".")[2]
    for name in [*names_here(key), *(f"{group}.{last}" for group in COMPONENTS)]:
        if owners := _owners(name, conf):
            return f"{key} does not exist; it is {name} here, which belongs to {owners}"
    return f"{key} does not exist; {NO_KEY.get(last) or NO_KEY.get(last.partition('_')[0], HELP)}"


def explain_flags(message: str, words: Sequence[str], conf: Path) -> str:
    """One sentence about what argparse says of the words; a flag that is a key here is told as ``key=value``."""
    flag = message.partition("unrecognized arguments: ")[2].partition(" ")[0]
    name, _, value = flag.partition("=")
    key = name.lstrip("-").replace("-", "_")
    root, of_components = _can_be_set(conf, [])
    if name.startswith("--") and (near := [key] if key in GROUPS else nearest_keys(key, [*root, *of_components])):
        after = [*words, ""][list(words).index(flag) + 1] if flag in words else ""
        value = value or (after if after and "=" not in after and not after.startswith("-") else "…")
        return f"{name} is not a flag; write {near[0]}={value}"
    if key in NO_KEY:
        return f"{name} is not a flag; {NO_KEY[key]}"
    return f"{message}; write flags first, then key=value, for example -m seed=0,1; {HELP}"


def _owners(key: str, conf: Path) -> str:
    """The options that have a key, as ``group=option``."""
    group = key.partition(".")[0]
    if group not in (*COMPONENTS, "logger"):
        return ""
    return ", ".join(f"{group}={option}" for option in options(conf, group) if key in _keys(conf, group, option))


def _can_be_set(conf: Path, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The keys of the root, and those of the components that the words choose, as far as their options exist."""
    chosen = [
        word if "=[" in word else word.partition(",")[0]
        for word in words
        if word.lstrip("+").partition("=")[0] in GROUPS
    ]
    register_schema()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        own = [f"hydra.searchpath=[{','.join(f'file://{folder.absolute()}' for folder in own_folders(words))}]"]
        try:
            return _names(compose("train", [*own, *chosen]))
        except Exception:  # a fault in a file, that another sentence is about
            return _names(compose("train"))


def _names(cfg: DictConfig) -> tuple[list[str], list[str]]:
    """The keys of the root, with those of its sections, and those of the components and of the loggers."""
    root = list(flat({str(name): cfg[name] for name in cfg if name not in (*COMPONENTS, "logger")}))
    leaves = [f"{group}.{name}" for group in COMPONENTS for name in cfg[group] or {}]
    leaves += flat({"logger": OmegaConf.to_container(cfg.logger)})
    return [*root, "logger"], [x for x in leaves if not x.endswith("._target_")]


@cache
def _keys(conf: Path, group: str, option: str) -> list[str]:
    """The dotted keys of a group's component, as an option and the files that it builds on set them."""
    path = conf / group / f"{option}.yaml"
    package = re.match(r"# @package (\S+)", path.read_text(encoding="utf-8"))
    prefix = f"{package.group(1) if package else group}.".removeprefix("_global_.")
    names = [prefix + name for name in flat(_with_defaults(path, conf))]
    return [name for name in names if name.startswith(f"{group}.") and not name.endswith("._target_")]


def _with_defaults(path: Path, conf: Path) -> dict[str, Any]:
    content = _load(path)
    merged: dict[str, Any] = {}
    for entry in content.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            base = conf / f"{entry}.yaml".lstrip("/") if entry.startswith("/") else path.parent / f"{entry}.yaml"
            merged = _merge(merged, _with_defaults(base, conf))
    return _merge(merged, content)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {key for key in below if isinstance(below[key], dict) and isinstance(above.get(key), dict)}
    return {**below, **above, **{key: _merge(below[key], above[key]) for key in both}}


def _load(path: Path) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(path)) or {}  # type: ignore[return-value]
