"""``logger=mlflow``: MLflow Tracking, on a server or in a database file."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from trpo_cli.errors import require
from trpo_cli.loggers.packages import require_package
from trpo_cli.runs.files import flat
from trpo_cli.runs.logger import Distributions, LoggedRun, Row

ID = "trpo_cli.id"  # the tag by which a run directory finds its run of MLflow again
EVERY_ROW = "sim_steps_total"  # a metric of every row: its last step says how many rows there are
MOST_PARAMS, LONGEST = 100, 6000  # MLflow's limits: parameters in a request, letters of a value


@dataclass
class Mlflow:
    """A run of MLflow, with the row of iteration i at step i; the store says which rows it has."""

    tracking_uri: str | None
    experiment: str
    name: str | None
    wait_s: float

    def __post_init__(self) -> None:
        require(0 < self.wait_s < float("inf"), "logger.mlflow.wait_s", self.wait_s, "a finite number > 0")
        require_package("mlflow", "mlflow")

    def open(self, run: LoggedRun) -> int:
        """Begin a run of MLflow, or go on with the one of this run directory."""
        from mlflow import MlflowClient

        place = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.directory}/mlflow.db"
        self._client: Any = MlflowClient(tracking_uri=place)
        experiment = self._experiment()
        found = self._client.search_runs([experiment], f"tags.`{ID}` = '{run.id}'", max_results=1)
        if found:
            entry = found[0]
            self._client.update_run(entry.info.run_id, status="RUNNING")
        else:
            tags = {ID: run.id, "command": run.command[:LONGEST]}
            tags |= {"mlflow.source.git.commit": run.commit} if run.commit else {}
            entry = self._client.create_run(experiment, run_name=self.name or run.title, tags=tags)
        self._run_id = entry.info.run_id
        settings = {_name(key): str(value)[:LONGEST] for key, value in {**run.options, **flat(run.config)}.items()}
        self._log_params({key: value for key, value in settings.items() if key not in entry.data.params})
        return 1 + max((m.step for m in self._client.get_metric_history(self._run_id, EVERY_ROW)), default=-1)

    def _experiment(self) -> str:
        """The id of the experiment. Another run may make it at the same time."""
        from mlflow.exceptions import MlflowException

        if (found := self._client.get_experiment_by_name(self.experiment)) is None:
            try:
                return str(self._client.create_experiment(self.experiment))
            except MlflowException:
                if (found := self._client.get_experiment_by_name(self.experiment)) is None:
                    raise
        return str(found.experiment_id)

    def _log_params(self, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in values.items()]
        for start in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._run_id, params=params[start : start + MOST_PARAMS])

    def write(self, row: Row, distributions: Distributions) -> None:
        """Log the numbers of the row; MLflow takes no words."""
        from mlflow.entities import Metric

        now, step = int(1000 * time()), row["iteration"]
        numbers = {key: float(value) for key, value in row.items() if isinstance(value, int | float)}
        metrics = [Metric(_name(key), value, now, step) for key, value in numbers.items() if key != "iteration"]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, finished: bool) -> None:
        """Say how the run ended. MLflow calls a run killed that was stopped, until it goes on."""
        self._client.set_terminated(self._run_id, "FINISHED" if finished else "KILLED")


def _name(key: str) -> str:
    """A key in the letters that MLflow takes."""
    return re.sub(r"[^\w\-. /:]", "_", key)
