"""`trpo-report`: figures and tables from run directories alone."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from trpo_cli.cli.encoding import print_anything
from trpo_cli.errors import ConfigError
from trpo_cli.reports import compare, figure4, figure5, gymnasium, table1, table2, table3, theory
from trpo_cli.reports.drawing import X_AXES
from trpo_cli.reports.paper import TASKS
from trpo_cli.reports.read_runs import find_runs, without_copies

# These reports take the runs and no other option.
PLAIN = {"figure5": figure5.report, "table1": table1.report, "table2": table2.report, "table3": table3.report}
EXAMPLES = """\
examples:
  trpo-report compare outputs/train --out figures                    any runs, grouped by what differs
  trpo-report compare outputs/a outputs/b --key update/mean_kl --out figures
  trpo-report compare outputs/train --against sim_steps --out figures
  trpo-report figure4 outputs/figure4 --task hopper --out figures    over the published curves
  trpo-report table2 outputs/table2 --out figures
  trpo-report figure5 outputs/figure5 --out figures                  Atari; the same for table1 and table3
  trpo-report theory --out figures

Unfinished runs are shown too, and marked as unfinished. trpo-report REPORT --help lists the options of a report."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one report. Return the exit status: 0, or 2 after one sentence about what is wrong with the input."""
    print_anything()
    chosen = _parser().parse_args(arguments)
    try:
        before = _times(chosen.out)
        print(_report(chosen))
        written = [str(path) for path, time in sorted(_times(chosen.out).items()) if before.get(path) != time]
        print(f"\nWritten: {', '.join(written)}")
    except ConfigError as error:
        print(f"trpo-report: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"trpo-report: {error.filename or chosen.out}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


def _times(folder: Path) -> dict[Path, int]:
    """When each file of a folder was written."""
    return {path: path.stat().st_mtime_ns for path in folder.iterdir()} if folder.is_dir() else {}


def _report(chosen: argparse.Namespace) -> str:
    if chosen.report == "theory":
        return theory.report(chosen.out, chosen.seed)
    if chosen.report == "gymnasium":
        return gymnasium.report(chosen.runs, chosen.out)
    runs, left_out = without_copies(find_runs(chosen.runs))
    if chosen.report == "figure4":
        text = figure4.report(runs, chosen.out, chosen.against or list(X_AXES), chosen.task or list(TASKS))
    elif chosen.report == "compare":
        text = compare.report(runs, chosen.out, chosen.key, chosen.against)
    else:
        text = PLAIN[chosen.report](runs, chosen.out)
    return "\n\n".join([text, *(["\n".join(left_out)] if left_out else [])])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trpo-report",
        description="Draw the paper's figures and tables, or any comparison, from run directories alone.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    reports = parser.add_subparsers(dest="report", required=True, metavar="REPORT")

    def add(name: str, purpose: str, writes: str, runs: bool = True) -> argparse.ArgumentParser:
        help = purpose.replace("%", "%%")  # argparse formats a help text, but not a description
        report = reports.add_parser(name, help=help, description=f"{purpose} Writes {writes} into DIR.")
        if runs:
            help = "run directories, or directories above run directories"
            report.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help=help)
        help = "directory for the results; it is made if it does not exist"
        report.add_argument("--out", required=True, type=Path, metavar="DIR", help=help)
        return report

    report = add(
        "figure4",
        "Learning curves of all methods on the paper's four tasks, over the published ones.",
        "figure4.png, figure4_sim_steps.png, figure4.csv and figure4.md",
    )
    report.add_argument(
        "--against", nargs="+", choices=X_AXES, help="horizontal axes, one drawing each (default: both)"
    )
    report.add_argument("--task", nargs="+", choices=TASKS, help="panels to draw (default: every task that has runs)")
    add(
        "figure5",
        "Learning curves on the seven Atari games, over the published dots.",
        "figure5.png, figure5.csv and figure5.md",
    )
    add(
        "table1",
        "Scores on the seven Atari games: the paper's rows, and ours as trpo-eval measured them.",
        "table1.md and table1.csv",
    )
    add("table2", "The paper's settings next to ours, as configured and as measured.", "table2.md and table2.csv")
    add(
        "table3",
        "The paper's settings for Atari next to ours, as configured and as measured.",
        "table3.md and table3.csv",
    )
    add(
        "gymnasium",
        "The benchmark on Gymnasium's tasks: ours beside the controls of scripts/reproduce gymnasium.",
        "benchmark.csv, curves.csv, table.md, benchmark.png and profile.png",
    )
    report = add(
        "compare",
        "Any runs side by side, grouped by the settings that differ, with 95% intervals over seeds.",
        "compare.png, profile.png and compare.csv",
    )
    help = (
        "column of progress.jsonl (default: collect/score, or collect/episode_return for Gymnasium's tasks and Atari)"
    )
    report.add_argument("--key", help=help)
    report.add_argument(
        "--against", default="iterations", choices=X_AXES, help="horizontal axis (default: %(default)s)"
    )
    report = add(
        "theory", "The bound of Theorem 1 and Algorithm 1 on random problems.", "theory.png and theory.csv", runs=False
    )
    report.add_argument("--seed", default=0, type=int, help="seed of the random problems (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
