"""Sweeps (``-m``): a run directory and a share of the cores for each job, with each of Hydra's launchers."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any, ClassVar

from hydra.errors import MissingConfigException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from trpo_cli.cli.words import key_of

# Overrides that the path of a run directory already shows; an experiment sets its own name.
IN_PATH = {"seed", "env", "optimizer", "sampler", "critic", "experiment", "name", "outputs"}
NO_RUN_OF_ITS_OWN = "logger"  # the group whose overrides do not make another run
LONGEST = 255  # bytes of a folder's name that every file system takes

# The package of each Hydra plugin that the files of conf/ use.
PACKAGES = {
    "hydra/launcher/joblib": "hydra-joblib-launcher",
    "hydra/launcher/ray": "hydra-ray-launcher",
    "hydra/launcher/submitit_local": "hydra-submitit-launcher",
    "hydra/launcher/submitit_slurm": "hydra-submitit-launcher",
    "hydra/sweeper/optuna": "hydra-optuna-sweeper",
    "hydra/sweeper/sampler/tpe": "hydra-optuna-sweeper",
}


def explain_missing_plugin(error: Exception, conf: Path) -> str | None:
    """One sentence about a plugin that is missing; None if ``error`` is about something else."""
    file = (error.missing_cfg_file if isinstance(error, MissingConfigException) else None) or ""
    folder, _, option = file.rpartition("/")
    if file in PACKAGES:
        return f"{folder}={option} is a plugin that is not installed: pip install {PACKAGES[file]}"
    if not folder.startswith(("hydra/launcher", "hydra/sweeper")):
        return None
    choices = sorted(path.stem for path in (conf / folder).glob("*.yaml"))
    return f"{folder}={option} does not exist; choices: {', '.join(['basic', *choices])}"


def job_name(name: str, swept: Sequence[str]) -> str:
    """``name=`` of one job, so that no two jobs share a run directory: ``train/workers=2``.

    swept: the job's overrides that differ from other jobs', as ``key=value``
    """
    words = ",".join(sorted(word.lstrip("+") for word in swept if _is_named(key_of(word))))
    folder = re.sub(r"[^\w.,=+-]+", "_", re.sub(r"[][{}'\"]", "", words))
    return f"{name}/{_shortened(folder)}" if folder else name


def _is_named(key: str) -> bool:
    return key not in IN_PATH and key.partition(".")[0] != NO_RUN_OF_ITS_OWN


def _shortened(folder: str) -> str:
    """The name of a folder, its end replaced by a hash of the whole if it is too long for a file system."""
    if len(folder.encode()) <= LONGEST:
        return folder
    end = f"-{sha256(folder.encode()).hexdigest()[:8]}"
    return folder.encode()[: LONGEST - len(end)].decode(errors="ignore") + end


class SweepFolder(Callback):
    """Hydra's hook at the start of a sweep, where Hydra writes ``multirun.yaml`` before it has checked any job."""

    _made: ClassVar[list[Path]] = []  # the folder and those above it, if they did not exist before; innermost first

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        SweepFolder._made[:] = [path for path in (folder, *folder.parents) if not path.exists()]

    @classmethod
    def remove_if_unused(cls) -> None:
        """Remove a folder that holds nothing but ``multirun.yaml`` and was made for it."""
        with suppress(OSError):  # something is in it, or the disk failed
            if cls._made and [path.name for path in cls._made[0].iterdir()] == ["multirun.yaml"]:
                (cls._made[0] / "multirun.yaml").unlink()
                for folder in cls._made:
                    folder.rmdir()


def granted_cores(launcher: Mapping[str, Any], cores: int) -> int:
    """How many of the ``cores`` here one job gets; the launcher may run several jobs at a time.

    launcher: configuration of Hydra's launcher. joblib's jobs share all cores; submitit and ray reserve some per job.
    """
    if "n_jobs" in launcher:
        at_once = launcher["n_jobs"]
        return max(cores // (at_once if at_once > 0 else max(cores + 1 + at_once, 1)), 1)
    if "ray" in launcher:
        return max(min(cores, int((launcher["ray"].get("remote") or {}).get("num_cpus", 1))), 1)
    return min(cores, launcher.get("cpus_per_task") or cores)


@cache
def end_with(command: int) -> None:
    """End this process, a child that runs jobs for ``command``, about a second after the command dies."""

    def watch() -> None:
        while os.getppid() == command:
            sleep(1.0)
        os._exit(1)

    Thread(target=watch, daemon=True).start()
