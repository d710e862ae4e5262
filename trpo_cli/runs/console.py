"""Live progress of a run: a bar and a growing table in a terminal, plain lines anywhere else."""

import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

N_TABLE_ROWS = 20  # of a whole run, so that all of them fit on a screen
N_RECENT = 10  # iterations that predict the time left; early ones do not, because episodes get longer during training
SECONDS_BETWEEN_LINES = 1.0


class Display:
    """Shows the rows of a run: ``with Display(n_iterations, start, title) as display``.

    n_iterations: of the whole run, including those before ``start``
    start: the first iteration of this command; above 0 if the command continues a run
    title: the first line, which names the run
    """

    def __init__(self, n_iterations: int, start: int, title: str, console: Console | None = None) -> None:
        self._n_iterations = n_iterations
        self._title = title
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._clock = deque([time.monotonic()], maxlen=N_RECENT + 1)
        self._printed_at = -math.inf
        self._pending: tuple[int, Mapping[str, Any]] | None = None
        self._has_header = False
        self._every = _round_up(n_iterations / N_TABLE_ROWS)
        self._progress = Progress(
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("[bold]score {task.fields[score]}"),
            TextColumn("KL {task.fields[kl]}"),
            TextColumn("{task.fields[speed]} steps/s"),
            _TimeLeft(),
            console=self._console,
            transient=True,
            expand=True,
            refresh_per_second=2,
        )
        self._task = self._progress.add_task(
            "", total=n_iterations, completed=start, score="-", kl="-", speed="-", ends_at=None
        )

    def update(self, row: Mapping[str, Any]) -> None:
        """Show ``row``, a row of ``progress.jsonl``. A dash stands for a missing value."""
        now = time.monotonic()
        self._clock.append(now)
        n_done = row["iteration"] + 1
        self._pending = n_done, row
        due = n_done % self._every == 0 if self._live else now - self._printed_at >= SECONDS_BETWEEN_LINES
        if self._live:
            score, kl, speed = _cells(row)
            ends_at = now + self._seconds_left(n_done)
            self._progress.update(
                self._task, refresh=due, completed=n_done, score=score, kl=kl, speed=speed, ends_at=ends_at
            )
        if due or n_done == 1 or n_done == self._n_iterations:
            self._print_pending()

    def message(self, text: str) -> None:
        """Print a sentence between the rows."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self.message(self._title)
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The last row is printed even if the run ends by an error.
        self._print_pending()
        if self._live:
            self._progress.stop()

    def _print_pending(self) -> None:
        """Print the latest row, unless it is already printed."""
        if self._pending is None:
            return
        (n_done, row), self._pending = self._pending, None
        self._printed_at = time.monotonic()
        score, kl, speed = _cells(row)
        if not self._live:
            width, left = len(str(self._n_iterations)), _duration(self._seconds_left(n_done))
            self.message(
                f"iteration {n_done:{width}}/{self._n_iterations}  score {score:>7}  KL {kl:>7}  "
                f"{speed:>5} steps/s  {left:>7} left"
            )
            return
        if not self._has_header:
            self._console.print(f"[dim]{'iteration':>9}  {'score':>9}  {'KL':>9}  {'steps/s':>9}  {'elapsed':>9}[/dim]")
            self._has_header = True
        self.message(f"{n_done:>9}  {score:>9}  {kl:>9}  {speed:>9}  {_duration(row.get('time_s')):>9}")

    def _seconds_left(self, n_done: int) -> float:
        seconds_per_iteration = (self._clock[-1] - self._clock[0]) / max(len(self._clock) - 1, 1)
        return seconds_per_iteration * max(self._n_iterations - n_done, 0)


class _TimeLeft(ProgressColumn):
    """Counts down during an iteration too, which may take minutes."""

    def render(self, task: Task) -> Text:
        ends_at = task.fields["ends_at"]
        return Text("-" if ends_at is None else f"{_duration(max(ends_at - time.monotonic(), 0))} left")


def _round_up(step: float) -> int:
    """Return the first of 1, 2, 5, 10, 20, 50, … that is at least ``step``."""
    magnitude = 10 ** math.floor(math.log10(max(step, 1)))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= step)


def _cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return score, mean KL and steps per second of a row, as text."""
    refused = row.get("update/accepted") in (False, 0)
    kl = "no step" if refused else _number(row.get("update/mean_kl"), ".4f")
    return _number(row.get("collect/score"), ".3f"), kl, _count(row.get("time/steps_per_s"))


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None or not math.isfinite(value) else format(value, spec)


def _count(value: float | None) -> str:
    """Return a number such as 980, 28.1k or 1.2M."""
    if value is None:
        return "-"
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
