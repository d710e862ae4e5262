"""Runs the missing jobs behind a figure or a table, each a ``trpo-train`` command, then has it drawn.

Finished runs are left alone and unfinished ones resumed, so the same command continues after any interruption. A job
that fails is named at the end and does not stop the others.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trpo_cli.errors import ConfigError

USAGE = "figure4|table2 [scale=paper|laptop|smoke] [task=cartpole,…] [method=vine,…] [seeds=5] [out=outputs]"
TASKS = ("cartpole", "swimmer", "hopper", "walker")
# Panel: the methods that the paper's Figure 4 shows there, as overrides.
METHODS = {
    "single_path": (),
    "vine": ("sampler=vine",),
    "natural_gradient": ("optimizer=natural_gradient",),
    "max_kl": ("optimizer=max_kl",),
    "empirical_fim": ("optimizer=empirical_fim",),
    "cem": ("optimizer=cem",),
    "cma": ("optimizer=cma",),
    "rwr": ("optimizer=rwr",),
}
PANELS = {
    "cartpole": tuple(METHODS),
    "swimmer": tuple(m for m in METHODS if m != "max_kl"),
    "hopper": ("single_path", "vine", "natural_gradient", "cem", "rwr"),
    "walker": ("single_path", "vine", "natural_gradient", "cem", "rwr"),
}
PENALTIES = (3, 1, 0.3, 0.1, 0.03, 0.01)  # λ of Eq. (17) that the authors swept


@dataclass(frozen=True)
class Job:
    """One run: the overrides of its ``trpo-train`` command."""

    overrides: tuple[str, ...]

    @property
    def command(self) -> str:
        return "trpo-train " + " ".join(self.overrides)

    def run(self) -> int:
        print(f"$ {self.command}", flush=True)
        return subprocess.run([sys.executable, "-m", "trpo_cli", *self.overrides]).returncode


def figure4_jobs(tasks: Sequence[str], methods: Sequence[str], scale: str, seeds: range) -> list[Job]:
    """The jobs behind Figure 4, one seed of every curve before the next seed of any."""
    name = "figure4" if scale == "paper" else f"figure4-{scale}"
    jobs = []
    for seed in seeds:
        for task in tasks:
            base = (f"experiment=fig4/{task}", f"scale={scale}", f"seed={seed}")
            for method in (m for m in PANELS[task] if m in methods):
                for suffix, extra in _variants(task, method):
                    jobs.append(Job((*base, f"name={name}{suffix}", *METHODS[method], *extra)))
    return jobs


def _variants(task: str, method: str) -> list[tuple[str, tuple[str, ...]]]:
    """Suffix of the run's name and further overrides, for each curve that a method is drawn as."""
    if method == "natural_gradient":
        return [(f"-penalty{penalty}", (f"optimizer.penalty={penalty}",)) for penalty in PENALTIES]
    variants: list[tuple[str, tuple[str, ...]]] = [("", ())]
    if task == "cartpole" and method in ("single_path", "vine", "empirical_fim"):
        variants.append(("-2delta", ("optimizer.kl_slack=2",)))
    if task == "hopper" and method == "single_path":
        variants.append(("-halving", ("optimizer.line_search=halving",)))
    return variants


def table2_jobs(tasks: Sequence[str], scale: str, seeds: range) -> list[Job]:
    """The jobs behind Table 2: both samplers under its protocol."""
    name = "table2" if scale == "paper" else f"table2-{scale}"
    return [
        Job((f"experiment=table2/{task}", f"scale={scale}", f"seed={seed}", f"name={name}", f"sampler={sampler}"))
        for seed in seeds
        for task in tasks
        for sampler in ("single", "vine")
    ]


@dataclass(frozen=True)
class Request:
    """What to reproduce: the words of the command line, checked."""

    target: str  # figure4 or table2
    scale: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: range
    out: Path

    def jobs(self) -> list[Job]:
        if self.target == "table2":
            return table2_jobs([t for t in self.tasks if t != "cartpole"], self.scale, self.seeds)
        return figure4_jobs(self.tasks, self.methods, self.scale, self.seeds)

    def report(self) -> list[str]:
        """The ``trpo-report`` words that draw what the jobs have made so far."""
        name = self.target if self.scale == "paper" else f"{self.target}-{self.scale}"
        runs = [f"outputs/{folder}" for folder in sorted({_name(job) for job in self.jobs()})]
        tasks = ["--task", *self.tasks] if self.target == "figure4" else []
        found = [run for run in runs if Path(run).is_dir()]
        return [self.target, *found, "--out", str(self.out / name), *tasks] if found else []


def _name(job: Job) -> str:
    return next(word.removeprefix("name=") for word in job.overrides if word.startswith("name="))


def parse(words: Sequence[str]) -> Request:
    """The request in ``figure4|table2 [scale=…] [task=a,b] [method=a,b] [seeds=5] [out=DIR]``."""
    if not words or words[0] not in ("figure4", "table2"):
        raise ConfigError(f"say what to reproduce, figure4 or table2: {USAGE}")
    given = {"scale": "paper", "task": ",".join(TASKS), "method": ",".join(METHODS), "seeds": "5", "out": "outputs"}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if key not in given or not equals:
            raise ConfigError(f"{word} is not understood; {USAGE}")
        given[key] = value
    for key, known in (("task", TASKS), ("method", tuple(METHODS)), ("scale", ("paper", "laptop", "smoke"))):
        for value in given[key].split(","):
            if value not in known:
                raise ConfigError(f"{key}={value} does not exist; choices: {', '.join(known)}")
    if not given["seeds"].isdigit() or int(given["seeds"]) < 1:
        raise ConfigError(f"seeds={given['seeds']} must be a whole number >= 1: how many, from 0 on")
    tasks, methods = tuple(given["task"].split(",")), tuple(given["method"].split(","))
    return Request(words[0], given["scale"], tasks, methods, range(int(given["seeds"])), Path(given["out"]))


def main() -> int:
    """Run what is missing, draw what there is; the exit status is 1 where a job failed, 2 for bad input."""
    try:
        request = parse(sys.argv[1:])
    except ConfigError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    failed = []
    for job in request.jobs():
        status = job.run()
        if status < 0 or status >= 128:
            return status  # somebody asked to stop
        if status:
            failed.append(job)
    if words := request.report():
        subprocess.run([sys.executable, "-c", "import sys; from trpo_cli.report import main; sys.exit(main())", *words])
    for job in failed:
        print(f"failed: {job.command}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
