"""The commands behind each figure and table."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trpo_cli.reports.gymnasium import CONTROL, GREEDY, gymnasium_id
from trpo_cli.reports.paper import GAMES, SAMPLERS, published_curves
from trpo_cli.reports.paper import METHODS as PAPERS_METHODS
from trpo_cli.reports.table1 import EVALUATION, RANDOM

# The overrides of each method of Figure 4.
METHODS: dict[str, tuple[str, ...]] = {"single_path": (), "vine": ("sampler=vine",)}
METHODS |= {method: (f"optimizer={method}",) for method in PAPERS_METHODS if method not in METHODS}
GAMES_IN_ORDER = ("pong", "breakout", *(game for game in GAMES if game not in ("pong", "breakout")))
PENALTIES = (3, 1, 0.3, 0.1, 0.03, 0.01)  # λ of Eq. (17), the values that the authors tried
PATHS_PENALTIES = (3, 2, 1)  # λ with the authors' damping: two of their values, and one between


@dataclass(frozen=True)
class Job:
    """One run: the overrides of its ``trpo-train`` command."""

    overrides: tuple[str, ...]

    @property
    def command(self) -> str:
        return "trpo-train " + " ".join(self.overrides)

    def run(self, place: str = "") -> int:
        """Train, and return the exit status. A finished run is left alone, an unfinished one is resumed.

        place: among all jobs, which is printed before the command
        """
        print(f"{place}$ {self.command}", flush=True)
        return subprocess.run([sys.executable, "-m", "trpo_cli", *self.overrides]).returncode


def folder(target: str, scale: str) -> str:
    """Return the name of a target's runs, which is also the name of the folder for its drawings."""
    return target if scale == "paper" else f"{target}-{scale}"


def figure4_jobs(tasks: Sequence[str], methods: Sequence[str], scale: str, seeds: range) -> list[Job]:
    """Return the jobs behind Figure 4. One seed of every curve comes before the next seed of any curve."""
    name, panels = folder("figure4", scale), published_curves()
    jobs = []
    for seed in seeds:
        for task in tasks:
            base = (f"experiment=fig4/{task}", f"scale={scale}", f"seed={seed}")
            for method in (method for method in METHODS if (task, method) in panels and method in methods):
                for suffix, extra in _variants(task, method, scale):
                    jobs.append(Job((*base, f"name={name}{suffix}", *METHODS[method], *extra)))
    return jobs


def _variants(task: str, method: str, scale: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the curves of a method: for each the suffix of its name, and its further overrides."""
    variants: list[tuple[str, tuple[str, ...]]] = []
    if method == "natural_gradient":
        variants += [(f"-penalty{p}", (f"optimizer.penalty={p}",)) for p in PENALTIES]
        if task == "cartpole":  # its published curve was made with the authors' damping
            paths = "optimizer.damping=paths"
            variants += [(f"-penalty{p}-paths", (f"optimizer.penalty={p}", paths)) for p in PATHS_PENALTIES]
        return variants
    variants.append(("", ()))
    if task == "cartpole" and method in ("single_path", "vine", "empirical_fim"):
        variants.append(("-2delta", ("optimizer.kl_slack=2",)))
    if task == "cartpole" and method == "max_kl":  # the settings of one of the authors' files, which accept up to 2 δ
        authors = ("optimizer.kl_limit=0.03", "optimizer.kl_slack=2", "optimizer.line_search=halving")
        variants.append(("-authors", authors))
    if task == "cartpole" and method in ("cem", "cma", "rwr") and scale == "paper":
        variants.append(("-64", ("path_scale=0.25",)))  # the published curves were made with fewer episodes
    if task == "hopper" and method == "single_path":
        variants.append(("-halving", ("optimizer.line_search=halving",)))
    return variants


def table2_jobs(tasks: Sequence[str], scale: str, seeds: range) -> list[Job]:
    """Return the jobs behind Table 2: both samplers, with the settings of the table."""
    name = folder("table2", scale)
    return [
        Job((f"experiment=table2/{task}", f"scale={scale}", f"seed={seed}", f"name={name}", f"sampler={sampler}"))
        for seed in seeds
        for task in tasks
        for sampler in ("single", "vine")
    ]


def atari_jobs(games: Sequence[str], methods: Sequence[str], scale: str, seeds: range, iterations: str) -> list[Job]:
    """Return the jobs behind Figure 5 and Tables 1 and 3: single path on every game, then the vine on every game."""
    name = folder("figure5", scale)
    more = (f"iterations={iterations}",) if iterations else ()
    return [
        Job((f"env=atari/{game}", f"scale={scale}", f"seed={seed}", f"name={name}", *METHODS[method], *more))
        for seed in seeds
        for method in SAMPLERS
        if method in methods
        for game in games
    ]


# Gymnasium's tasks and their budgets of environment steps: those that others have published scores at.
BUDGETS = dict.fromkeys(
    (
        *("hopper_v5", "walker2d_v5", "half_cheetah_v5", "swimmer_v5", "ant_v5", "humanoid_v5"),
        *("reacher_v5", "pusher_v5", "inverted_pendulum_v5", "inverted_double_pendulum_v5"),
    ),
    1_000_000,
)
BUDGETS |= {"CartPole-v1": 100_000, "Acrobot-v1": 100_000, "Pendulum-v1": 100_000, "MountainCarContinuous-v0": 50_000}
BUDGETS |= {"LunarLander-v3": 200_000, "BipedalWalker-v3": 1_000_000}
FIRST_SEED = 200  # no setting was chosen on the seeds from here on
CONTROLS = ("trpo", "ppo")
CONTROL_SEEDS = 5  # a control takes several times as long as a run of ours


def gymnasium_jobs(
    tasks: Sequence[str], methods: Sequence[str], n_seeds: int, episodes: int
) -> "list[Job | Evaluation | Control]":
    """Return the jobs behind the benchmark: one seed of every task and method comes before the next seed of any."""
    jobs: list[Job | Evaluation | Control] = []
    for seed in range(FIRST_SEED, FIRST_SEED + n_seeds):
        for task in tasks:
            if "ours" in methods:
                jobs += _benchmark_run(task, seed, episodes)
            if seed < FIRST_SEED + CONTROL_SEEDS:
                controls = [method for method in methods if method in CONTROLS]
                jobs += [Control(gymnasium_id(task), method, seed, BUDGETS[task]) for method in controls]
    return jobs


def _benchmark_run(task: str, seed: int, episodes: int) -> "list[Job | Evaluation]":
    words: tuple[str, ...]
    if task.endswith("_v5"):
        words, name = (f"env={task}",), "gymnasium"
        directory = Path(f"outputs/{name}/{task}/trpo-single-mlp/seed{seed}")
    else:
        words, name = ("env=gymnasium", f"env.id={task}"), f"gymnasium/{task}"
        directory = Path(f"outputs/{name}/gymnasium/trpo-single-mlp/seed{seed}")
    train = Job((*words, f"total_steps={BUDGETS[task]}", f"seed={seed}", f"name={name}", "checkpoint_every=20"))
    return [train, *(Evaluation(directory, episodes, file) for file in (GREEDY, EVALUATION))]


@dataclass(frozen=True)
class Control:
    """One run of another library, in a process of its own."""

    env: str  # Gymnasium's name
    algorithm: str  # of `CONTROLS`
    seed: int
    steps: int

    @property
    def directory(self) -> Path:
        return Path(f"outputs/gymnasium/controls/{self.env}/{self.algorithm}/seed{self.seed}")

    @property
    def command(self) -> str:
        words = (self.env, self.algorithm, str(self.seed), str(self.steps), str(self.directory))
        return f"python scripts/reproducing/controls.py {' '.join(words)}"

    def run(self, place: str = "") -> int:
        """Train and evaluate, and return the exit status. Do nothing if the result is there."""
        if (self.directory / CONTROL).exists():
            return 0
        print(f"{place}$ {self.command}", flush=True)
        return subprocess.run([sys.executable, *self.command.split()[1:]]).returncode


@dataclass(frozen=True)
class Evaluation:
    """One ``trpo-eval`` command on a run directory, for Table 1 and for the benchmark."""

    run_directory: Path
    episodes: int
    file: str  # of the result, which says how the policy plays: at random, greedily, or as it was trained

    @property
    def words(self) -> list[str]:
        how = {RANDOM: ["random=true"], GREEDY: ["greedy=true"]}.get(self.file, [])
        return [f"run={self.run_directory}", f"episodes={self.episodes}", *how, f"out={self._out}"]

    @property
    def command(self) -> str:
        return "trpo-eval " + " ".join(self.words)

    @property
    def _out(self) -> Path:
        return self.run_directory / self.file

    def run(self, place: str = "") -> int:
        """Evaluate, and return the exit status. Do nothing if there is no checkpoint or the result is up to date."""
        if not (self.run_directory / "checkpoint.pt").exists() or self._up_to_date():
            return 0
        print(f"{place}$ {self.command}", flush=True)
        evaluate = "import sys; from trpo_cli.cli.train import evaluate; sys.exit(evaluate())"
        return subprocess.run([sys.executable, "-c", evaluate, *self.words]).returncode

    def _up_to_date(self) -> bool:
        try:
            found = json.loads(self._out.read_text())
            n_rows = len((self.run_directory / "progress.jsonl").read_text().splitlines())
        except (OSError, ValueError):
            return False
        return bool(found["episodes"] == self.episodes and (self.file == RANDOM or found["iterations"] == n_rows))


def evaluations(
    games: Sequence[str], methods: Sequence[str], scale: str, seeds: range, episodes: int
) -> list[Evaluation]:
    """Return the evaluations of every run's policy, and of random actions once per game, in its first run."""
    name = folder("figure5", scale)
    samplers = [sampler for method, sampler in (("single_path", "single"), ("vine", "vine")) if method in methods]
    found = []
    for game in games:
        directories = [Path(f"outputs/{name}/atari/{game}/trpo-{s}/seed{k}") for k in seeds for s in samplers]
        found += [Evaluation(directory, episodes, EVALUATION) for directory in directories]
        found += [Evaluation(directory, episodes, RANDOM) for directory in directories[:1]]
    return found
