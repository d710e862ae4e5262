"""The console scripts: compose the configuration of the command line, then run it, or each job of a sweep."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # one worker per core: more threads would only wait for one another
os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach `sentences`, which prints one sentence

import hydra  # noqa: E402
from hydra._internal.utils import get_args_parser  # noqa: E402
from hydra.conf import HydraConf  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.errors import MissingConfigException  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from trpo_cli.cli.encoding import print_anything  # noqa: E402
from trpo_cli.cli.exits import JobError, noting_what_is_saved, say, sentences, verdict  # noqa: E402
from trpo_cli.cli.help import page  # noqa: E402
from trpo_cli.cli.messages import explain, explain_flags  # noqa: E402
from trpo_cli.cli.sweep_table import Job, Ledger, final_score, table, what_is_missing  # noqa: E402
from trpo_cli.cli.sweeps import (  # noqa: E402
    SweepFolder,
    end_with,
    explain_missing_plugin,
    granted_cores,
    job_name,
)
from trpo_cli.cli.whole_numbers import with_whole_numbers  # noqa: E402
from trpo_cli.cli.words import as_typed, key_of, own_folders, quote, run_to_continue, swept_keys  # noqa: E402
from trpo_cli.config.schema import conf_dir, register_schema  # noqa: E402
from trpo_cli.errors import ConfigError, RunError  # noqa: E402

if TYPE_CHECKING:
    from trpo_cli.training.run import Plan


def _run_job(cfg: DictConfig, label: str = "") -> Path:
    """One run; its directory. Raises what `exits.verdict` turns into an exit status and a sentence.

    label: of its lines, if other jobs print at the same time
    """
    from trpo_cli.config.plan import plan_with_workers
    from trpo_cli.parallel.cores import available_cores

    context, cores = HydraConfig.get(), available_cores()
    words = _words(context)
    if context.mode == RunMode.MULTIRUN:
        cores = granted_cores(context.launcher, cores)
        if "=" in cfg.name:  # the name that `job_name` made
            words = [word for word in words if key_of(word) != "name"] + [f"name={quote(cfg.name)}"]

    return _run(lambda: plan_with_workers(cfg, context.runtime.choices, cores, words, _flags(context)), label)


def _run(make_plan: "Callable[[], tuple[int, Plan]]", label: str = "") -> Path:
    """Carry out a plan with so many workers; its directory."""
    from trpo_cli.parallel import processes
    from trpo_cli.parallel.stopping import StopRequest
    from trpo_cli.training import run

    n, plan = processes.agree_on(make_plan)
    plan = replace(plan, label=label)
    with noting_what_is_saved(plan.directory), StopRequest() as stop:
        status = processes.run(n, lambda group: run.execute(plan, group, stop))
    if status:
        raise SystemExit(status)
    return plan.directory


def _continue(run: str, words: list[str]) -> None:
    """``continue=DIRECTORY`` and what may stand beside it."""
    from trpo_cli.cli.continuing import plan_to_continue
    from trpo_cli.parallel.cores import available_cores

    _run(lambda: plan_to_continue(run, words, available_cores()))


def _words(context: HydraConf) -> list[str]:
    """The job's overrides as they were written: OmegaConf would replace ``${iterations}`` by its value."""
    return OmegaConf.to_container(context.overrides.task, resolve=False)  # type: ignore[return-value]


def _flags(context: HydraConf) -> list[str]:
    """The flags that the command needs to find the same files again."""
    folders = [source.path for source in context.runtime.config_sources if source.provider == "command-line"]
    return [word for folder in folders for word in ("--config-dir", os.path.relpath(folder))]


def _run_hydra(job: Callable[..., Path]) -> None:
    """Compose the command line's configuration and run ``job`` on it, or on each configuration of a sweep."""
    failures: list[Exception] = []
    composed = False
    command, swept = os.getpid(), swept_keys(sys.argv[1:])

    def single_or_sweep(cfg: DictConfig) -> float | None:
        """Returns `final_score`, for Optuna's sweeper."""
        nonlocal composed
        composed = True
        sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        if os.getppid() == command:  # one of joblib's processes, which share the terminal
            end_with(command)
            os.environ["TERM"] = "dumb"
            print_anything()
        try:
            if sweep:
                return _run_sweep_job(cfg, job, swept)
            job(cfg)
        except Exception as error:
            if os.getpid() != command:
                raise  # the launcher takes it back to the command
            failures.append(error)  # not through Hydra, which would print lines of its own
        return None

    if "RANK" in os.environ and {"-m", "--multirun"} & set(sys.argv):
        _refuse_in_group("torchrun starts the workers of one run: leave out -m, and call it once for each job")
    sweeps = bool({"-m", "--multirun"} & set(sys.argv))
    with Ledger() if sweeps else nullcontext() as ledger:
        try:
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(single_or_sweep)()
        except JobError as error:
            failures.append(error)
        except Exception as error:
            # If jobs have failed, the sweeper fails too, and the jobs have already said why.
            if not failures:
                failures.append(_explained(error, composed, sweeps))
        jobs = [] if ledger is None else ledger.jobs()
        if jobs:
            longer = (
                "\n\nMake a job longer: trpo-train continue=DIRECTORY iterations=…, or total_steps=… if that ends it"
            )
            print(f"\n{table(jobs)}{longer if any(job.status == 0 for job in jobs) else ''}", flush=True)
    if failures:
        if sweeps:
            SweepFolder.remove_if_unused()
        if isinstance(failures[0], JobError):
            raise JobError(failures[0].args[0], what_is_missing(jobs))
        raise failures[0]


def _explained(error: Exception, composed: bool, sweeps: bool) -> Exception:
    """What Hydra or a sweeper refused, as an error of one sentence; anything else as it is."""
    explained: Exception
    if isinstance(error, OSError) and not isinstance(error, MissingConfigException):
        return error  # of the disk, which refused a sweep's folder
    if composed and not sweeps:
        return error  # from the job
    if composed:  # jobs say themselves what is wrong with them
        said = (str(error).splitlines() or [""])[0]
        explained = RunError(f"the sweep ended early, by {type(error).__name__}: {said}")
    else:
        sentence = explain_missing_plugin(error, conf_dir()) or explain(error, conf_dir(), sys.argv[1:])
        _refuse_in_group(sentence)
        explained = ConfigError(sentence)
    explained.__cause__ = error
    return explained


def _refuse_in_group(sentence: str) -> None:
    """Raise a refusal in every member of torchrun's group; do nothing without one."""
    if "RANK" in os.environ:
        from trpo_cli.parallel.processes import share_refusal

        share_refusal(ConfigError(sentence))


def _run_sweep_job(cfg: DictConfig, job: Callable[..., Path], swept: set[str]) -> float | None:
    """Run one job of a sweep in its own directory. If it fails, say why at once; the other jobs go on."""
    context = HydraConfig.get()
    swept = swept | set(context.sweeper.get("params") or ())
    overrides = [word.lstrip("+") for word in _words(context) if key_of(word) in swept]
    cfg.name = job_name(cfg.name, overrides)
    directory = _run_directory(cfg, context)
    label = " ".join(overrides) if context.launcher.get("n_jobs", 1) != 1 else ""  # joblib's jobs share the terminal
    try:
        directory = job(cfg, label)
    except Exception as error:
        status, sentence = verdict(error) or (1, f"{type(error).__name__}: {error}")
        Job(overrides, str(directory) if directory else None, status).add()
        say("trpo-train", ": ".join([" ".join(overrides), sentence] if overrides else [sentence]))
        if isinstance(error, BrokenPipeError):
            raise SystemExit(status) from error  # the other jobs cannot print anything either
        raise JobError(status) from error
    Job(overrides, str(directory), 0).add()
    return final_score(directory)


def _run_directory(cfg: DictConfig, context: HydraConf) -> Path | None:
    """A job's run directory; None if the configuration will be refused before it has one."""
    from trpo_cli.config.plan import run_directory

    with suppress(OmegaConfBaseException, ConfigError, KeyError):
        return run_directory(cfg, context.runtime.choices)
    return None


def _require_known_flags() -> None:
    """Refuse unknown flags in one sentence; Hydra's own parser would print its whole usage."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError(explain_flags(message, sys.argv[1:], conf_dir()))

    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args()


def train() -> None:
    """``trpo-train [overrides]``."""
    register_schema()
    print_anything()
    with sentences("trpo-train"):
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(page(conf_dir(), own_folders(sys.argv[1:])))
            return
        if "--version" in sys.argv[1:]:
            print(f"trpo_cli {_version()}")
            return
        run = run_to_continue(sys.argv[1:])
        if run is None:
            _require_known_flags()
        sys.argv[1:] = with_whole_numbers([as_typed(word) for word in sys.argv[1:]])
        if run is None:
            _run_hydra(_run_job)
        else:
            _continue(run, sys.argv[1:])


def _version() -> str:
    try:
        return version("trpo_cli")
    except PackageNotFoundError:
        return "from a checkout that is not installed"


def evaluate() -> None:
    """``trpo-eval run=… [key=value …]``."""
    words = sys.argv[1:]
    print_anything()
    if not words or {"-h", "--help"} & set(words):
        from trpo_cli.cli.evaluate import usage

        print(usage())
        raise SystemExit(0 if words else 2)
    with sentences("trpo-eval"):
        from trpo_cli.cli import evaluate as evaluation

        evaluation.main(words)


def export() -> None:
    """``trpo-export run=… out=…``."""
    from trpo_cli.cli import export as exporting

    words = sys.argv[1:]
    if not words or {"-h", "--help"} & set(words):
        print(exporting.HELP)
        raise SystemExit(0 if words else 2)
    with sentences("trpo-export"):
        exporting.main(words)
