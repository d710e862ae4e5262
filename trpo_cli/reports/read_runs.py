"""Reads runs from the files of their directories, wherever these lie and however they are named."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trpo_cli.errors import ConfigError

PROGRESS, DESCRIPTION, DONE = "progress.jsonl", "run.json", "done.json"  # files of a run directory
SEARCHES = ("cem", "cma")  # they use no sampler
OPEN = {"gymnasium": "id", "atari": "game"}  # options of env= for any task, and the key that names it


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a run, and what ``run.json`` says about their machine, code and command."""

    rows: range
    info: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run with at least one row, finished or not.

    config: ``.hydra/config.yaml``, nested. info: ``run.json``. rows: ``progress.jsonl``, one row per iteration.
    """

    directory: Path
    task: str
    optimizer: str
    sampler: str
    critic: str
    config: dict[str, Any]
    info: dict[str, Any]
    rows: Sequence[dict[str, Any]]
    finished: bool

    @property
    def method(self) -> str:
        """The method's name in the CSV of Figure 4; the critic's option follows it, if there is one."""
        if self.optimizer == "trpo":
            name = {"single": "single_path"}.get(self.sampler, self.sampler)
        else:
            plain = self.sampler == "single" or self.optimizer in SEARCHES
            name = self.optimizer if plain else f"{self.optimizer}_{self.sampler}"
        return name if self.critic == "none" else f"{name}_{self.critic}"

    @property
    def seed(self) -> int:
        return int(self.info["identity"]["seed"])

    @property
    def paid_per_step(self) -> bool:
        """True if the score, the return per step of the limit, tells something: not for Gymnasium's tasks and Atari."""
        option = self.info.get("options", {}).get("env", self.task)
        return not (option == "gymnasium" or option.endswith("_v5") or option.startswith("atari"))

    @property
    def name(self) -> str:
        """The experiment that the run belongs to."""
        return str(self.config.get("name", ""))

    @property
    def asked(self) -> tuple[float, float]:
        """The iterations and the environment steps at which the run was told to end; infinite if it was not told."""
        limits = (self.config.get(key) for key in ("iterations", "total_steps"))
        iterations, steps = (inf if limit is None else float(limit) for limit in limits)
        return iterations, steps

    @property
    def planned(self) -> int:
        """The iterations of the whole run; estimated from those so far if its budget of steps will end it."""
        iterations, steps = self.asked
        if self.finished and steps < inf:
            return len(self.rows)
        return ceil(min(iterations, steps * len(self.rows) / self.rows[-1]["sim_steps_total"]))

    @cached_property
    def parts(self) -> list[Part]:
        """The rows by what computed them: several parts if the run was continued with another machine or commit."""
        entries = [{"iteration": 0, **self.info}, *self.info.get("continued", [])]
        starts = [int(entry["iteration"]) for entry in entries]
        found: list[Part] = []
        info: dict[str, Any] = {}
        for entry, start, end in zip(entries, starts, [*starts[1:], len(self.rows)], strict=True):
            info = {**info, **entry}
            if start < end <= len(self.rows):
                found.append(Part(range(start, end), info))
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that decide what is computed: ``{"optimizer.kl_limit": 0.01, …}``; all but the seed."""
        return flat({key: value for key, value in self.info["identity"].items() if key != "seed"})

    def column(self, key: str) -> NDArray[np.float64]:
        """Return the values of ``key`` `[n_rows]`, NaN if a row has none."""
        return np.array([row[key] if row.get(key) is not None else np.nan for row in self.rows], dtype=np.float64)


def find_runs(roots: Iterable[Path]) -> list[Run]:
    """Return the runs in or under ``roots``, in the order of their directories. Runs without a row are left out.

    Raises ConfigError if a root holds no run, or if a run cannot be read.
    """
    found: dict[Path, Run] = {}
    for root in roots:
        if not root.is_dir():
            raise ConfigError(f"{root} is not a directory; give run directories, or a directory above them")
        paths = sorted(root.absolute().rglob(PROGRESS))
        found |= {path: run for path in paths if (run := read_run(path.parent)) is not None}
        if not any(path in found for path in paths):
            raise ConfigError(
                f"{root} holds no progress.jsonl with a row; give run directories, or a directory above them"
            )
    return [found[path] for path in sorted(found)]


def read_run(directory: Path) -> Run | None:
    """Return the run in ``directory``, or None if it has no row yet. Raises ConfigError if a file cannot be read."""
    rows = _read_rows(directory / PROGRESS)
    if not rows:
        return None
    info = _read_description(directory / DESCRIPTION)
    options = info.get("options") or _options_in_path(directory)
    config_path = directory / ".hydra" / "config.yaml"
    try:
        config = OmegaConf.to_container(OmegaConf.load(config_path), resolve=True)
    except (OSError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"cannot read {config_path}: {_first_line(error)}") from error
    if not isinstance(config, dict) or not {"seed", "iterations"} <= config.keys():
        raise ConfigError(f"{config_path} is not the configuration of a run: it lacks seed or iterations")
    return Run(
        directory=directory,
        task=_task(options["env"], config.get("env")),
        optimizer=options["optimizer"],
        sampler=options["sampler"],
        critic=options.get("critic", "none"),
        config={str(key): value for key, value in config.items()},
        info=info,
        rows=rows,
        finished=_is_finished(directory / DONE, len(rows)),
    )


def without_copies(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Return the runs, each seed of an experiment once, and a sentence about each run that was left out.

    Of several runs with the same name, settings and seed the longest one counts; of several of these, one in a folder
    that is named after its seed.
    """
    kept: dict[tuple[object, ...], Run] = {}
    sentences = {}
    for run in sorted(runs, key=lambda run: (-len(run.rows), run.directory.name != f"seed{run.seed}")):
        same = (run.task, run.method, run.name, repr(sorted(run.settings.items())), run.seed)
        if (first := kept.setdefault(same, run)) is not run:
            copied = list(run.rows) == list(first.rows[: len(run.rows)])
            what = "is a copy of" if copied else "has the name, the settings and the seed of"
            sentences[run.directory] = f"{run.directory} {what} {first.directory} and does not count."
    return [run for run in runs if run.directory not in sentences], [sentences[path] for path in sorted(sentences)]


def _is_finished(done: Path, n_rows: int) -> bool:
    """True if ``done.json`` is about all rows: a run that was extended and then stopped is not finished."""
    return done.exists() and read_json(done).get("iterations", n_rows) == n_rows


def _task(option: str, env: Any) -> str:
    """The last part of the option of ``env=``; if any task can be set there, the name of the one that is."""
    key = OPEN.get(option)
    return str(env[key]) if key and isinstance(env, dict) and key in env else option.rpartition("/")[2]


def _options_in_path(directory: Path) -> dict[str, str]:
    """Return the options that the name of a run directory says, if ``run.json`` of an older version does not."""
    layout = re.fullmatch(r"([^-]+)-([^-]+)(?:-([^-]+))?", directory.parent.name)
    if layout is None:
        form = "<env>/<optimizer>-<sampler>[-<critic>]/seed<seed>"
        raise ConfigError(f"{directory} is not named {form}, as a run directory is")
    options = {"optimizer": layout[1], "sampler": layout[2], "critic": layout[3] or "none"}
    return {"env": directory.parent.parent.name, **options}


def flat(tree: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one level: ``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def _read_rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    lines = path.read_bytes().split(b"\n")
    for i, line in enumerate(lines[:-1]):  # after the last newline stands a row that is incomplete, if any
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ConfigError(f"{path} line {i + 1} is not JSON: {_first_line(error)}") from error
    return rows


def _read_description(path: Path) -> dict[str, Any]:
    """Return the content of a ``run.json`` of this version's format."""
    content = read_json(path)
    if not isinstance(content.get("identity"), dict) or content.get("format") == 1:
        raise ConfigError(f"{path} has format {content.get('format')}: rewrite it with scripts/rewrite_runs")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``. Raises ConfigError if there is none."""
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"cannot read {path}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
