"""What the commands do, as functions for a program or a notebook."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from trpo_cli.cli.continuing import plan_to_continue
from trpo_cli.cli.evaluate import Request
from trpo_cli.cli.evaluate import evaluate as evaluate_request
from trpo_cli.cli.exits import noting_what_is_saved
from trpo_cli.cli.messages import explain
from trpo_cli.cli.whole_numbers import with_whole_numbers
from trpo_cli.cli.words import as_typed, run_to_continue, swept_keys
from trpo_cli.config.plan import plan_with_workers
from trpo_cli.config.schema import conf_dir, register_schema
from trpo_cli.errors import ConfigError, RunError
from trpo_cli.parallel import processes
from trpo_cli.parallel.cores import available_cores
from trpo_cli.parallel.stopping import SIGNALS, StopRequest
from trpo_cli.training.run import execute


def train(overrides: Sequence[str]) -> Path:
    """Run the job of ``trpo-train`` with these words, or go on with it, and return its run directory.

    The workers are processes of their own, and what they print goes to the program's standard output.
    Raises ConfigError, which is a ValueError, before anything starts; RunError if the run cannot go on or was stopped.
    """
    if isinstance(overrides, str):
        raise ConfigError(f"overrides={overrides!r} must be a list of words: trpo_cli.train([{overrides!r}])")
    words = with_whole_numbers([as_typed(word) for word in overrides])
    cores = available_cores()
    if (run := run_to_continue(words)) is not None:
        n, plan = plan_to_continue(run, words, cores)
    else:
        n, plan = plan_with_workers(*_composed(words), cores, words)
    with _same_handlers_after(), noting_what_is_saved(plan.directory), StopRequest() as stop:
        status = processes.run(n, lambda group: execute(plan, group, stop))
    if status:
        raise RunError(f"{plan.directory} was stopped with the exit status {status}; the same words resume it")
    return plan.directory


def _composed(words: Sequence[str]) -> tuple[DictConfig, Mapping[str, str]]:
    """The configuration, and the option chosen for each group."""
    register_schema()
    if swept := swept_keys(words):
        raise ConfigError(f"{min(swept)} has several values; call train once for each")
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            cfg = compose("train", list(words), return_hydra_config=True)
    except Exception as error:
        raise ConfigError(explain(error, conf_dir(), words)) from error
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


@contextmanager
def _same_handlers_after() -> Iterator[None]:
    """A command ends after a signal; a program goes on, with its own signal handlers."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def evaluate(run: str | Path, **words: Any) -> dict[str, Any]:
    """Play whole episodes with a run's policy and return what ``trpo-eval`` writes to its JSON file.

    words: as those of ``trpo-eval``, for example episodes=20, greedy=True, seed=0, checkpoint="best"
    """
    known = set(Request.__dataclass_fields__) - {"run", "out"}
    if unknown := sorted(set(words) - known):
        raise ConfigError(f"{unknown[0]} does not exist; choose among {', '.join(sorted(known))}")
    return evaluate_request(Request(run=str(run), **words))
