"""``logger=wandb``: Weights & Biases, on a server or into files for ``wandb sync``."""

from dataclasses import dataclass
from typing import Any

from trpo_cli.errors import require
from trpo_cli.loggers.packages import require_package
from trpo_cli.runs.files import finite
from trpo_cli.runs.logger import Distributions, LoggedRun, Row


@dataclass
class Wandb:
    """A run of W&B, with the row of iteration i at step i and ``sim_steps_total`` as the x axis of its charts.

    The server says which rows it has. Files of mode=offline do not: each time a run goes on, a new folder gets all of
    its rows, so that the latest one holds the whole run.
    """

    project: str | None
    entity: str | None
    group: str | None
    name: str | None
    tags: list[str]
    mode: str
    wait_s: float

    def __post_init__(self) -> None:
        require(self.mode in ("online", "offline"), "logger.wandb.mode", self.mode, "online or offline")
        require(0 < self.wait_s < float("inf"), "logger.wandb.wait_s", self.wait_s, "a finite number > 0")
        require_package("wandb", "wandb")

    def open(self, run: LoggedRun) -> int:
        """Begin a run of W&B, or go on with the one of this run directory."""
        import wandb

        self._run: Any = wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group,
            name=self.name or run.title,
            tags=self.tags,
            mode=self.mode,
            id=run.id,
            resume="allow",
            allow_val_change=True,  # a run may be resumed with more iterations
            dir=run.directory,
            config=finite({**run.config, "options": run.options, "command": run.command, "commit": run.commit}),
            settings=wandb.Settings(console="off"),
        )
        self._run.define_metric("*", step_metric="sim_steps_total")
        if self.mode == "online":
            run.tell(f"W&B shows this run at {self._run.url}")
        return self._run.step if self.mode == "online" else 0

    def write(self, row: Row, distributions: Distributions) -> None:
        """Log what the row knows."""
        known = {key: value for key, value in row.items() if value is not None}
        self._run.log(known, step=row["iteration"], commit=True)

    def close(self, finished: bool) -> None:
        """Send the rest. W&B calls a run failed that was stopped, until it goes on."""
        self._run.finish(exit_code=0 if finished else 1)
