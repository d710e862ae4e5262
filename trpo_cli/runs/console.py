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

N_HISTORY_LINES = 20  # about as many stay on the screen of a finished run
N_RECENT = 10  # iterations whose mean duration predicts the rest: episodes get longer as a policy learns
SECONDS_BETWEEN_LINES = 1.0


class Display:
    """Shows row after row of a run, ``with Display(n_iterations, start, title) as display``.

    n_iterations: of the whole run, the ones before ``start`` included
    start: iteration the command begins with, above 0 when it continues a run
    title: first line, which says what runs
    """

    def __init__(self, n_iterations: int, start: int, title: str, console: Console | None = None) -> None:
        self._n_iterations = n_iterations
        self._title = title
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._clock = deque([time.monotonic()], maxlen=N_RECENT + 1)
        self._shown_at = -math.inf
        self._pending: tuple[int, Mapping[str, Any]] | None = None
        self._has_header = False
        self._every = _round_step(n_iterations / N_HISTORY_LINES)
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
        """Shows ``row``, one of ``progress.jsonl``; what it lacks is shown as a dash."""
        now = time.monotonic()
        self._clock.append(now)
        n_done = row["iteration"] + 1
        self._pending = n_done, row
        due = n_done % self._every == 0 if self._live else now - self._shown_at >= SECONDS_BETWEEN_LINES
        if self._live:
            self._progress.update(
                self._task,
                refresh=due,
                completed=n_done,
                score=_number(row.get("collect/score"), ".3f"),
                kl=_kl(row),
                speed=_count(row.get("time/steps_per_s")),
                ends_at=now + self._seconds_left(n_done),
            )
        if due or n_done == 1 or n_done == self._n_iterations:
            self._flush()

    def message(self, text: str) -> None:
        """Prints a sentence between the rows."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self.message(self._title)
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The last row is shown however the run ends.
        self._flush()
        if self._live:
            self._progress.stop()

    def _flush(self) -> None:
        """Prints the latest row unless it is printed already."""
        if self._pending is None:
            return
        (n_done, row), self._pending = self._pending, None
        self._shown_at = time.monotonic()
        score, kl = _number(row.get("collect/score"), ".3f"), _kl(row)
        speed, left = _count(row.get("time/steps_per_s")), _duration(self._seconds_left(n_done))
        width = len(str(self._n_iterations))
        if not self._live:
            self.message(
                f"iteration {n_done:{width}}/{self._n_iterations}  score {score:>7}  KL {kl:>7}  "
                f"{speed:>5} steps/s  {left:>7} left"
            )
            return
        if not self._has_header:
            self._console.print(f"[dim]{'iteration':>9}  {'score':>9}  {'KL':>9}  {'steps/s':>9}  {'elapsed':>9}[/dim]")
            self._has_header = True
        elapsed = _duration(row.get("time_s"))
        self.message(f"{n_done:>9}  {score:>9}  {kl:>9}  {speed:>9}  {elapsed:>9}")

    def _seconds_left(self, n_done: int) -> float:
        seconds = (self._clock[-1] - self._clock[0]) / max(len(self._clock) - 1, 1)
        return seconds * max(self._n_iterations - n_done, 0)


class _TimeLeft(ProgressColumn):
    """Counts down between iterations, which may take minutes."""

    def render(self, task: Task) -> Text:
        ends_at = task.fields["ends_at"]
        return Text("-" if ends_at is None else f"{_duration(max(ends_at - time.monotonic(), 0))} left")


def _round_step(step: float) -> int:
    """The first of 1, 2, 5, 10, 20, 50, … that is at least ``step``."""
    magnitude = 10 ** math.floor(math.log10(max(step, 1)))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= step)


def _kl(row: Mapping[str, Any]) -> str:
    return "no step" if row.get("update/accepted") in (False, 0) else _number(row.get("update/mean_kl"), ".4f")


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None or not math.isfinite(value) else format(value, spec)


def _count(value: float | None) -> str:
    """As 980, 28.1k or 1.2M."""
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
