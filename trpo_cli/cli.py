"""The console scripts: Hydra entry points, and every refusal as one sentence with an exit status.

Exit status: 0 done, 2 bad input, 1 a run that cannot go on, 128 + n stopped by signal n after saving.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # a worker is a core: more threads in each would only take turns
os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach main(), which says them in one sentence

import hydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from trpo_cli.config import conf_dir, register_schema  # noqa: E402
from trpo_cli.errors import ConfigError, RunError  # noqa: E402
from trpo_cli.sentences import explain  # noqa: E402


def _job(cfg: DictConfig) -> None:
    """One run; raises what main() turns into a sentence and an exit status."""
    from trpo_cli import assembly, workers

    plan = assembly.plan(cfg, HydraConfig.get().runtime.choices)
    status = workers.run(cfg.workers, lambda world: assembly.execute(plan, world))
    if status:
        raise SystemExit(status)


def _hydra(job: Callable[[DictConfig], None]) -> None:
    """Compose the command line's configuration and run ``job`` on it, or on each of a sweep's."""
    failure: list[Exception] = []

    composed = False

    def single_or_sweep(cfg: DictConfig) -> None:
        nonlocal composed
        composed = True
        try:
            job(cfg)
        except Exception as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # the sweeper goes on with the other jobs
            failure.append(error)  # past Hydra, which would add lines of its own

    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(single_or_sweep)()
    except Exception as error:
        if composed:
            raise
        raise ConfigError(explain(error, conf_dir())) from error
    if failure:
        raise failure[0]


def train() -> None:
    """``trpo-train [overrides]``."""
    register_schema()
    with _sentences("trpo-train"):
        _hydra(_job)


def evaluate() -> None:
    """``trpo-eval run=… [key=value …]``."""
    words = sys.argv[1:]
    if not words or {"-h", "--help"} & set(words):
        from trpo_cli.evaluation import USAGE, Request

        print(f"Scores a trained policy.\n\n  {USAGE}\n\nKeys: {', '.join(Request.__dataclass_fields__)}.")
        raise SystemExit(0 if words else 2)
    with _sentences("trpo-eval"):
        from trpo_cli import evaluation

        evaluation.main(words)


@contextmanager
def _sentences(command: str) -> Iterator[None]:
    """Turn what can go wrong into one sentence on the error stream and an exit status."""

    def leave(status: int, sentence: str) -> None:
        print(f"{command}: {sentence}", file=sys.stderr)
        raise SystemExit(status)

    try:
        yield
    except ConfigError as error:
        leave(2, str(error))
    except RunError as error:
        leave(1, str(error))
    except OSError as error:
        leave(1, f"cannot write to {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        leave(130, "stopped at once; the last checkpoint is intact, the same command resumes")
