"""Runs the missing jobs behind a figure or a table, each a ``trpo-train`` command, then has it drawn.

Finished runs are left alone and unfinished ones resumed, so the same command continues after any interruption. A job
that fails is named at the end and does not stop the others.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reproducing.jobs import (
    GAMES,
    METHODS,
    TASKS,
    Evaluation,
    Job,
    atari_jobs,
    evaluations,
    figure4_jobs,
    folder,
    table2_jobs,
)
from trpo_cli.errors import ConfigError

USAGE = (
    "figure4|table2|figure5|table1|table3 [scale=paper|laptop|smoke] [task=cartpole,…|pong,…] [method=vine,…] "
    "[seeds=N] [iterations=N] [episodes=100] [out=outputs]"
)
ATARI = ("figure5", "table1", "table3")  # drawn from the same runs
TARGETS = ("figure4", "table2", *ATARI)


@dataclass(frozen=True)
class Request:
    """What to reproduce: the words of the command line, checked."""

    target: str  # one of TARGETS
    scale: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: range
    iterations: str  # of Atari runs; "" for all 500
    episodes: int  # that Table 1 plays with each policy
    out: Path

    def jobs(self) -> list[Job]:
        if self.target in ATARI:
            return atari_jobs(self.tasks, self.methods, self.scale, self.seeds, self.iterations)
        if self.target == "table2":
            return table2_jobs([t for t in self.tasks if t != "cartpole"], self.scale, self.seeds)
        return figure4_jobs(self.tasks, self.methods, self.scale, self.seeds)

    def evaluations(self) -> list[Evaluation]:
        """What is to be evaluated between the runs and the report."""
        if self.target != "table1":
            return []
        return evaluations(self.tasks, self.methods, self.scale, self.seeds, self.episodes)

    def report(self) -> list[str]:
        """The ``trpo-report`` words that draw what the jobs have made so far."""
        name = folder(self.target, self.scale)
        runs = [f"outputs/{run}" for run in sorted({_name(job) for job in self.jobs()})]
        tasks = ["--task", *self.tasks] if self.target == "figure4" else []
        found = [run for run in runs if Path(run).is_dir()]
        return [self.target, *found, "--out", str(self.out / name), *tasks] if found else []


def _name(job: Job) -> str:
    return next(word.removeprefix("name=") for word in job.overrides if word.startswith("name="))


def parse(words: Sequence[str]) -> Request:
    """The request in ``figure4 [scale=…] [task=a,b] [method=a,b] [seeds=5] [out=DIR]``."""
    if not words or words[0] not in TARGETS:
        raise ConfigError(f"say what to reproduce, one of {', '.join(TARGETS)}: {USAGE}")
    target, atari = words[0], words[0] in ATARI
    known = {
        "scale": ("paper", "laptop", "smoke"),
        "task": GAMES if atari else TASKS,
        "method": ("single_path", "vine") if atari else tuple(METHODS),
    }
    given = {"scale": "paper", "task": ",".join(known["task"]), "method": ",".join(known["method"])}
    given |= {"seeds": "1" if atari else "5", "iterations": "", "episodes": "100", "out": "outputs"}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if key not in given or not equals:
            raise ConfigError(f"{word} is not understood; {USAGE}")
        given[key] = value
    for key, choices in known.items():
        for value in given[key].split(","):
            if value not in choices:
                raise ConfigError(f"{key}={value} does not exist; choices: {', '.join(choices)}")
    for key, meaning in (("seeds", "how many, from 0 on"), ("episodes", "of each policy"), ("iterations", "of a run")):
        value = given[key]
        if not (value.isdigit() and int(value) >= 1) and not (key == "iterations" and value == ""):
            raise ConfigError(f"{key}={value} must be a whole number >= 1: {meaning}")
    if given["iterations"] and not atari:
        raise ConfigError(f"iterations={given['iterations']} is not used by {target}, whose curves are all as long")
    return Request(
        target,
        given["scale"],
        tuple(given["task"].split(",")),
        tuple(given["method"].split(",")),
        range(int(given["seeds"])),
        given["iterations"],
        int(given["episodes"]),
        Path(given["out"]),
    )


def main() -> int:
    """Run what is missing, draw what there is; the exit status is 1 where a job failed, 2 for bad input."""
    try:
        request = parse(sys.argv[1:])
    except ConfigError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    failed: list[Job | Evaluation] = []
    todo: list[Job | Evaluation] = [*request.jobs(), *request.evaluations()]
    for job in todo:
        status = job.run()
        if status < 0 or status >= 128:
            return status  # somebody asked to stop
        if status:
            failed.append(job)
    if words := request.report():
        subprocess.run(
            [sys.executable, "-c", "import sys; from trpo_cli.cli.report import main; sys.exit(main())", *words]
        )
    for job in failed:
        print(f"failed: {job.command}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
