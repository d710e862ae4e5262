"""Runs the missing jobs behind a figure or a table, each a ``trpo-train`` command, and then draws it.

Finished runs are left alone and unfinished runs are resumed. After an interruption the same command therefore
continues. A job that fails does not stop the others, and is named at the end.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reproducing.jobs import (
    BUDGETS,
    CONTROLS,
    GAMES_IN_ORDER,
    METHODS,
    Control,
    Evaluation,
    Job,
    atari_jobs,
    evaluations,
    figure4_jobs,
    folder,
    gymnasium_jobs,
    table2_jobs,
)
from trpo_cli.errors import ConfigError
from trpo_cli.reports.paper import SAMPLERS, TASKS

USAGE = (
    "figure4|table2|figure5|table1|table3|gymnasium [scale=paper|laptop|smoke] [task=cartpole,…|pong,…|hopper_v5,…] "
    "[method=vine,…|ours,trpo,ppo] [seeds=N] [iterations=N] [episodes=N] [out=outputs]"
)
HELP = """\
Runs what is missing for a figure or a table, and draws it. Finished runs are left alone and unfinished ones go on, so
the same command continues after an interruption. The runs are below outputs/, the drawings in out=.

  scripts/reproduce TARGET [key=value …]

Targets
  figure4    learning curves of all methods on the paper's four tasks
  table2     both samplers with the settings of the table
  figure5    both samplers on the seven Atari games; table1 and table3 are made of the same runs
  table1     the same, and the score of each policy and of random play
  table3     the same runs, their settings beside the paper's
  gymnasium  the benchmark: sixteen tasks of Gymnasium beside sb3-contrib's TRPO and stable-baselines3's PPO

Keys, with the values that they have if you do not set them
  scale=paper    paper, laptop (an eighth of every batch), or smoke (a hundredth: to see that it runs)
  task=…         all; or some, between commas: task=cartpole,hopper for a figure of the paper, task=pong, task=hopper_v5
  method=…       all; or some, between commas: method=single_path,vine; for gymnasium method=ours,trpo,ppo
  seeds=…        number of seeds: 5; for the Atari games 1; for gymnasium 10
  iterations=…   of an Atari run: all 500
  episodes=…     that table1 (100) and gymnasium (20) play with each policy
  out=outputs    folder in which a folder for the drawings is made

Examples
  scripts/reproduce figure4 task=cartpole scale=laptop seeds=2
  scripts/reproduce figure5 task=pong,breakout iterations=50"""
ATARI = ("figure5", "table1", "table3")  # they are drawn from the same runs
TARGETS = ("figure4", "table2", *ATARI, "gymnasium")
SCALES = ("paper", "laptop", "smoke")
NUMBERS = {"seeds": "the number of seeds", "iterations": "of a run", "episodes": "of each policy"}


@dataclass(frozen=True)
class ReproduceRequest:
    """What to reproduce: the checked words of the command line."""

    target: str  # one of TARGETS
    scale: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: range
    iterations: str  # of an Atari run; "" for all 500
    episodes: int  # that Table 1 and the benchmark play with each policy
    out: Path

    def todo(self) -> list[Job | Evaluation | Control]:
        """Return the runs in their order, with the evaluations that the report needs."""
        if self.target == "gymnasium":
            return gymnasium_jobs(self.tasks, self.methods, len(self.seeds), self.episodes)
        return [*self.jobs(), *self.evaluations()]

    def jobs(self) -> list[Job]:
        """Return the runs of a figure or table of the paper."""
        if self.target in ATARI:
            return atari_jobs(self.tasks, self.methods, self.scale, self.seeds, self.iterations)
        if self.target == "table2":
            return table2_jobs([t for t in self.tasks if t != "cartpole"], self.scale, self.seeds)
        return figure4_jobs(self.tasks, self.methods, self.scale, self.seeds)

    def evaluations(self) -> list[Evaluation]:
        """Return the evaluations that the report needs after the runs."""
        if self.target != "table1":
            return []
        return evaluations(self.tasks, self.methods, self.scale, self.seeds, self.episodes)

    def report(self) -> list[str]:
        """Return the words of the ``trpo-report`` command for the runs that exist, [] if there are none."""
        if self.target == "gymnasium":
            benchmark = Path("outputs/gymnasium")
            return [self.target, str(benchmark), "--out", str(self.out / self.target)] if benchmark.is_dir() else []
        name = folder(self.target, self.scale)
        runs = [f"outputs/{run}" for run in sorted({_name(job) for job in self.jobs()})]
        tasks = ["--task", *self.tasks] if self.target == "figure4" else []
        found = [run for run in runs if Path(run).is_dir()]
        return [self.target, *found, "--out", str(self.out / name), *tasks] if found else []


def _name(job: Job) -> str:
    return next(word.removeprefix("name=") for word in job.overrides if word.startswith("name="))


def parse(words: Sequence[str]) -> ReproduceRequest:
    """Return the request of ``figure4 [scale=…] [task=a,b] [method=a,b] [seeds=5] [out=DIR]``.

    Raises ConfigError, with one sentence, if the words make no request.
    """
    if not words or words[0] not in TARGETS:
        raise ConfigError(f"say what to reproduce, one of {', '.join(TARGETS)}: {USAGE}")
    target, atari, benchmark = words[0], words[0] in ATARI, words[0] == "gymnasium"
    tasks, methods = (tuple(TASKS), tuple(METHODS))
    if atari:
        tasks, methods = GAMES_IN_ORDER, tuple(SAMPLERS)
    elif benchmark:
        tasks, methods = tuple(BUDGETS), ("ours", *CONTROLS)
    choices = {"scale": ("paper",) if benchmark else SCALES, "task": tasks, "method": methods}
    given = {"scale": "paper", "task": ",".join(tasks), "method": ",".join(methods)}
    seeds, episodes = ("10", "20") if benchmark else ("1" if atari else "5", "100")
    given |= {"seeds": seeds, "iterations": "", "episodes": episodes, "out": "outputs"}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if key not in given or not equals:
            raise ConfigError(f"{word} is not understood: {USAGE}")
        given[key] = value
    for key, known in choices.items():
        for value in given[key].split(","):
            if value not in known:
                raise ConfigError(f"{key}={value} does not exist; choices: {', '.join(known)}")
    for key, meaning in NUMBERS.items():
        _require_positive(key, given[key], meaning)
    if given["iterations"] and not atari:
        raise ConfigError(
            f"iterations={given['iterations']} is not used by {target}: its experiments set the iterations"
        )
    return ReproduceRequest(
        target,
        given["scale"],
        tuple(given["task"].split(",")),
        tuple(given["method"].split(",")),
        range(int(given["seeds"])),
        given["iterations"],
        int(given["episodes"]),
        Path(given["out"]),
    )


def _require_positive(key: str, value: str, meaning: str) -> None:
    unset = key == "iterations" and value == ""
    if not unset and not (value.isdigit() and int(value) >= 1):
        raise ConfigError(f"{key}={value} must be a whole number >= 1: {meaning}")


def main() -> int:
    """Run what is missing and draw what exists. The exit status is 1 if a job failed, and 2 for bad input."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(HELP)
        return 0
    try:
        request = parse(sys.argv[1:])
    except ConfigError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    failed: list[Job | Evaluation | Control] = []
    todo = request.todo()
    for i, job in enumerate(todo):
        status = job.run(f"job {i + 1} of {len(todo)} ")
        if status < 0 or status >= 128:
            return status  # a signal stopped the job, so stop here too
        if status:
            failed.append(job)
    if words := request.report():
        subprocess.run(
            [sys.executable, "-c", "import sys; from trpo_cli.cli.report import main; sys.exit(main())", *words]
        )  # its last line says which files it wrote
    for job in failed:
        print(f"failed: {job.command}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
