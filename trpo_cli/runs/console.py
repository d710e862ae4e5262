"""Live progress of a run: a bar and a growing table in a terminal, plain lines anywhere else."""

import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

N_TABLE_ROWS = 20  # of a whole run, so that all of them fit on a screen
N_RECENT = 10  # iterations that predict the time left; early ones do not, because episodes get longer during training
SECONDS_BETWEEN_LINES = 1.0


class Display:
    """Shows the rows of a run: ``with Display(n_iterations, start, title) as display``.

    n_iterations: of the whole run, including those before ``start``; None if only the steps are limited
    start: the first iteration of this command; above 0 if the command continues a run
    title: the first line, which names the run
    total_steps: the budget of environment steps, if the run has one: progress is then counted in steps
    with_score: False for a task whose score, the return per step of the limit, says nothing: see `score_is_shown`
    label: begins every line, to tell the lines of several runs apart
    """

    def __init__(
        self,
        n_iterations: int | None,
        start: int,
        title: str,
        console: Console | None = None,
        total_steps: int | None = None,
        with_score: bool = True,
        label: str = "",
    ) -> None:
        self._n_iterations, self._total_steps = n_iterations, total_steps
        self._title, self._label = title, f"[{label}] " if label else ""
        self._measures = ["return", "score"] if with_score else ["return"]
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        # Time and share of the run that was done, after each of the last iterations.
        self._clock: deque[tuple[float, float]] = deque(maxlen=N_RECENT + 1)
        self._begun = time.monotonic()
        self._printed_at = -math.inf
        self._pending: tuple[int, Mapping[str, Any]] | None = None
        self._has_header = False
        self._every = _round_up(n_iterations / N_TABLE_ROWS) if n_iterations else 0  # 0: found at the first row
        self._progress = Progress(
            TextColumn("{task.fields[place]}"),
            BarColumn(bar_width=None),
            TextColumn(f"[bold]{self._measures[-1]} {{task.fields[measure]}}"),  # two would leave no place for a bar
            TextColumn("KL {task.fields[kl]}"),
            TextColumn("{task.fields[speed]} steps/s"),
            _TimeLeft(),
            console=self._console,
            transient=True,
            expand=True,
            refresh_per_second=2,
        )
        place = "" if total_steps else f"{start}/{n_iterations}"
        cells: dict[str, Any] = {"place": place, "measure": "-", "kl": "-", "speed": "-", "ends_at": None}
        self._task = self._progress.add_task("", total=1.0, **cells)
        self._progress.update(self._task, completed=start / n_iterations if n_iterations else 0.0)

    def update(self, row: Mapping[str, Any]) -> None:
        """Show ``row``, a row of ``progress.jsonl``. A dash stands for a missing value."""
        now = time.monotonic()
        n_done = row["iteration"] + 1
        if not self._clock:
            self._clock.append((self._begun, self._share(n_done - 1, row, -row.get("collect/sim_steps", 0))))
        self._clock.append((now, self._share(n_done, row)))
        self._pending = n_done, row
        if not self._every:  # about as many iterations as this one's steps fit into the budget
            self._every = _round_up((self._total_steps or 0) / row["collect/sim_steps"] / N_TABLE_ROWS)
        due = n_done % self._every == 0 if self._live else now - self._printed_at >= SECONDS_BETWEEN_LINES
        if self._live:
            measures, kl, speed = self._cells(row)
            place, share = self._place(n_done, row), self._clock[-1][1]
            cells: dict[str, Any] = {
                "place": place,
                "measure": measures[self._measures[-1]],
                "kl": kl,
                "speed": speed,
                "ends_at": now + self._seconds_left(),
            }
            self._progress.update(self._task, refresh=due, completed=share, **cells)
        if due or n_done == 1 or self._clock[-1][1] >= 1:
            self._print_pending()

    def message(self, text: str) -> None:
        """Print a sentence between the rows."""
        self._console.print(f"{self._label}{text}", markup=False, emoji=False, highlight=False, soft_wrap=True)

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
        measures, kl, speed = self._cells(row)
        if not self._live:
            told = "  ".join(f"{name} {value:>9}" for name, value in measures.items())
            left = _duration(self._seconds_left())
            self.message(f"{self._place(n_done, row)}  {told}  KL {kl:>9}  {speed:>5} steps/s  {left:>7} left")
            return
        if not self._has_header:
            names = ["iteration", *measures, "KL", "steps/s", "elapsed"]
            self._console.print(f"[dim]{'  '.join(f'{name:>9}' for name in names)}[/dim]")
            self._has_header = True
        cells = [str(n_done), *measures.values(), kl, speed, _duration(row.get("time_s"))]
        self.message("  ".join(f"{cell:>9}" for cell in cells))

    def _cells(self, row: Mapping[str, Any]) -> tuple[dict[str, str], str, str]:
        """Return the measures of a row, its mean KL and its steps per second, as text."""
        refused = row.get("update/accepted") in (False, 0)
        kl = "no step" if refused else number(row.get("update/mean_kl"))
        values = {"return": row.get("collect/episode_return"), "score": row.get("collect/score")}
        measures = {name: number(values[name]) for name in self._measures}
        return measures, kl, _count(row.get("time/steps_per_s"))

    def _share(self, n_done: int, row: Mapping[str, Any], more_steps: int = 0) -> float:
        """Return how much of the run is done after ``n_done`` iterations: 1 is all of it."""
        of_steps = (row.get("sim_steps_total", 0) + more_steps) / self._total_steps if self._total_steps else 0.0
        of_iterations = n_done / self._n_iterations if self._n_iterations else 0.0
        return min(max(of_iterations, of_steps), 1.0)

    def _place(self, n_done: int, row: Mapping[str, Any]) -> str:
        """Return where the run is: ``iteration 12/200`` or, with a budget of steps, ``52.1k/1.0M steps``."""
        if self._total_steps:
            return f"{_count(row.get('sim_steps_total')):>6}/{_count(self._total_steps)} steps"
        digits = len(str(self._n_iterations))
        return f"{'' if self._live else 'iteration '}{n_done:{digits}}/{self._n_iterations}"

    def _seconds_left(self) -> float:
        """Return the time that the rest takes at the pace of the last iterations."""
        (begun, before), (now, share) = self._clock[0], self._clock[-1]
        return (now - begun) * (1 - share) / (share - before) if share > before else 0.0


class _TimeLeft(ProgressColumn):
    """Counts down during an iteration too, which may take minutes."""

    def render(self, task: Task) -> Text:
        ends_at = task.fields["ends_at"]
        return Text("-" if ends_at is None else f"{_duration(max(ends_at - time.monotonic(), 0))} left")


def _round_up(step: float) -> int:
    """Return the first of 1, 2, 5, 10, 20, 50, … that is at least ``step``."""
    magnitude = 10 ** math.floor(math.log10(max(step, 1)))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= step)


def number(value: float | None) -> str:
    """Return four significant digits, or a dash if there is no number."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


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
