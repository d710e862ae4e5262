"""``scripts/rewrite_runs``: run directories of format 1 become those of format 2, in which every number has one name.

Format 1 had a section ``task``, whose numbers other sections repeated, and recorded values that the run did not use. A
run goes on after it was rewritten: its command composes the identity that stands in its ``run.json``.
"""

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from math import inf, nan
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from trpo_cli.cli.messages import explain
from trpo_cli.cli.words import quote
from trpo_cli.config.messages import to_word
from trpo_cli.config.plan import plan
from trpo_cli.config.scale import LEAST
from trpo_cli.config.schema import conf_dir, register_schema
from trpo_cli.errors import ConfigError
from trpo_cli.policies.base import InputMap
from trpo_cli.runs.checkpoint import CHECKPOINT, PREVIOUS, checkpoint_bytes, write_atomically
from trpo_cli.runs.directory import FORMAT, to_json
from trpo_cli.training.run import Plan
from trpo_cli.training.state import TrainingState

# Settings that came later: (the setting that they stand beside, what every run before them did).
LATER = {
    "optimizer.damping": ("optimizer.cg_damping", "identity"),
    "optimizer.fisher_min_states": ("optimizer.fisher_fraction", 0),
    "sampler.steps_per_iteration": ("sampler.n_trunks", None),
    "sampler.trunk_steps": ("sampler.n_trunks", None),
}
# Names of format 1, and what they are called now.
RENAMED = (
    (r"task\.(step_limit|iterations)", r"\1"),
    (r"sampler\.step_limit", "step_limit"),
    (r"task\.(hidden_sizes|nonlinearity|precision|input_scale|input_clip)", r"policy.\1"),
    (r"task\.fisher_fraction", "optimizer.fisher_fraction"),
    (r"task\.gamma", "sampler.gamma"),
    (r"task\.(?:single|vine)\.(\w+)", r"sampler.\1"),
    (r"task\.search\.(\w+)", r"optimizer.\1"),
    (r"sampler\.scale", "path_scale"),
)
OF_THE_COMMAND = ("name", "outputs", "iterations", "workers", "device", "checkpoint_every")  # in config.yaml
SEARCHES = ("trpo_cli.optimizers.cem.Cem", "trpo_cli.optimizers.cma.Cma")
RWR = "trpo_cli.optimizers.rwr.RewardWeightedRegression"
MOVED = {  # class paths
    "trpo_cli.convolutions.Conv": "trpo_cli.policies.Conv",
    "trpo_cli.optimizers.maximum_likelihood.RewardWeightedRegression": RWR,
    "trpo_cli.optimizers.gradient_steps.NaturalGradient": "trpo_cli.optimizers.natural_gradient.NaturalGradient",
    "trpo_cli.optimizers.gradient_steps.PolicyGradient": "trpo_cli.optimizers.policy_gradient.PolicyGradient",
}


def main(folders: Sequence[str]) -> int:
    """Rewrite what lies below the folders; the exit status."""
    if not folders:
        print("usage: scripts/rewrite_runs FOLDER [FOLDER …]", file=sys.stderr)
        return 2
    failed = 0
    for path in sorted(path for folder in folders for path in Path(folder).rglob("run.json")):
        try:
            if rewrite(path.parent):
                print(f"{path.parent}: rewritten")
        except (ConfigError, OSError, ValueError, KeyError) as error:
            failed += 1
            print(f"{path.parent}: not rewritten: {error}", file=sys.stderr)
    return 1 if failed else 0


def rewrite(directory: Path) -> bool:
    """Bring one run directory to the format of today; False if it has that format already."""
    description = json.loads((directory / "run.json").read_text())
    if description["format"] != 1:
        return False
    recorded = _flat(translated(description["identity"]))
    words = new_words(description["command"])
    extra = missing_words(words, recorded)
    planned = _planned([*words, *extra])
    used = _flat(planned.identity)
    identity = {key: value for key, value in recorded.items() if key in used}
    for part in [description, *description.get("continued", [])]:
        if "command" in part:
            part["command"] = shlex.join(["trpo-train", *new_words(part["command"]), *extra])
    path = directory / ".hydra" / "config.yaml"
    if path.exists():
        was = yaml.safe_load(path.read_text())
        config = planned.config | {key: was[key] for key in OF_THE_COMMAND}
        config["sampler"] = {key: value for key, value in config["sampler"].items() if key != "step_limit"}
        write_atomically(path, OmegaConf.to_yaml(OmegaConf.create(config)).encode())
    for name in (CHECKPOINT, PREVIOUS):
        rewrite_checkpoint(directory / name, float(planned.config["policy"].get("input_clip", inf)))
    new = {**description, "format": FORMAT, "identity": _nested(identity)}
    write_atomically(directory / "run.json", to_json(new, indent=2))
    return True


def rewrite_checkpoint(path: Path, clip: float) -> None:
    """Bring a checkpoint to the keys of `TrainingState`; clip: of the policy's inputs, which it did not hold."""
    if not path.exists():
        return
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content["format"] != 1:
        return
    saved = content["state"]
    inner = saved["state"]
    search = {key.removeprefix("search/"): value for key, value in inner.items() if key.startswith("search/")}
    inputs = InputMap(inner["input_centre"].numpy(), inner["input_half_range"].numpy(), clip)
    state = TrainingState(
        theta=inner["theta"],
        input_map=inputs,
        search={key: value.numpy() for key, value in search.items()} or None,
        episode_length=float(inner.get("episode_length", nan)),
        iteration=saved["iteration"],
        sim_steps_total=saved["sim_steps_total"],
        time_s=saved["time_s"],
    )
    write_atomically(path, checkpoint_bytes(state.to_dict()))


def new_words(command: str) -> list[str]:
    """The overrides of a command of format 1 under the names of today.

    Format 1 joined the overrides by spaces without quotes: a piece that gives no key a value belongs to the one before.
    """
    words: list[str] = []
    for piece in command.split()[1:]:
        if words and not re.match(r"[~+]*[\w./@]+=", piece):
            words[-1] += f" {piece}"
        else:
            words.append(piece)
    return [_new_word(word) for word in words]


def _new_word(word: str) -> str:
    key, equals, value = word.partition("=")
    for old, new in RENAMED:
        if re.fullmatch(old, key):
            return re.sub(old, new, key) + equals + value
    return word


def translated(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity of format 1 with one name per number, later settings added, its values of an iteration scaled."""
    groups = {group: dict(identity[group]) for group in ("env", "policy", "sampler", "optimizer")}
    sampler = groups["sampler"]
    scale, limit = sampler.pop("scale"), sampler.pop("step_limit")
    if groups["optimizer"]["_target_"] in SEARCHES:  # which never looked at the sampler's
        limit = identity["task"]["step_limit"]
    if scale != 1:
        drawn = {name: sampler[name] for name in LEAST if sampler.get(name) is not None}
        sampler |= {name: max(round(value * scale), LEAST[name]) for name, value in drawn.items()}
    for key, (beside, value) in LATER.items():
        group, _, name = key.partition(".")
        if beside.partition(".")[2] in groups[group]:
            groups[group].setdefault(name, value)
    for values in groups.values():
        values["_target_"] = MOVED.get(values["_target_"], values["_target_"])
    return {"seed": identity["seed"], "step_limit": limit, **groups}


def missing_words(words: Sequence[str], recorded: Mapping[str, Any]) -> list[str]:
    """What a command has to say beside ``words``, so that it composes what was recorded."""
    extra = ["critic=none"] if _planned(words).critic is not None else []  # no run of format 1 had one
    for _ in range(2):  # a word may make another value count
        planned = _planned([*words, *extra])
        composed, everything = _flat(planned.identity), _flat(planned.config)
        if unknown := [key for key in recorded if key not in everything]:
            raise ConfigError(f"the setting {unknown[0]}={recorded[unknown[0]]} of this run does not exist any more")
        if new := [key for key in composed if key not in recorded and composed[key] is not None]:
            raise ConfigError(f"this run has no {new[0]}, and what runs did before there was one is not known")
        if not (different := [key for key in composed if composed[key] != recorded.get(key)]):
            return extra
        extra += [f"{key}={_as_word(recorded[key])}" for key in different]
    raise ConfigError(f"no command was found that composes {', '.join(different)} as recorded")


def _planned(words: Sequence[str]) -> Plan:
    """The run that a command describes, on any machine."""
    register_schema()
    on_any_machine = [word for word in words if not word.startswith("device=")]
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            cfg = compose("train", on_any_machine, return_hydra_config=True)
    except Exception as error:
        raise ConfigError(explain(error, conf_dir(), words)) from error
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return plan(cfg, choices, on_any_machine)


def _as_word(value: Any) -> str:
    """A value as it is written in an override."""
    if isinstance(value, list):
        return "[" + ",".join(map(_as_word, value)) + "]"
    return quote(value) if isinstance(value, str) and not re.fullmatch(r"[\w./-]+", value) else to_word(value)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return tree


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
