"""``scripts/bench``: measures this machine, prints a table and writes it as JSON."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # one core per process, as for trpo-train

import argparse  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from time import perf_counter, process_time, strftime  # noqa: E402
from typing import Any  # noqa: E402

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks import atari, iterations, many_cores, sampling, updates  # noqa: E402
from benchmarks.measure import Clock, Row, watch  # noqa: E402
from trpo_cli.parallel.cores import available_cores  # noqa: E402
from trpo_cli.runs.provenance import run_info  # noqa: E402

BUSY = 0.2  # if other programs use more cores than this, the figures are not reliable

Section = Callable[[], list[Row]]


def sections(n_cores: int) -> dict[str, list[Section]]:
    """Return every measurement by its name for ``--only``."""
    surviving = sampling.SamplerSize(True, 64, 3, 300, 256, 16, 60)
    fresh = sampling.SamplerSize(
        False, 256, 5, 1000, 256, 16, 60
    )  # many, because a new policy falls soon; more than 64 are alive on average
    v5 = {"hopper_v5": "Hopper-v5", "walker2d_v5": "Walker2d-v5", "swimmer_v5": "Swimmer-v5"}
    batches = (updates.UpdateSize(50_000, 7), updates.UpdateSize(500_000, 3, double_backprop=True))
    return {
        "sampler": [partial(sampling.sampler_rate, env, surviving, n_cores) for env in v5],
        "falling": [partial(sampling.sampler_rate, env, fresh, n_cores) for env in ("hopper_v5", "walker2d_v5")],
        "one_core": [partial(sampling.sampler_rate, env, surviving, 1) for env in ("hopper", "walker", "swimmer")],
        "gymnasium": [partial(sampling.against_gymnasium, env, v5[env], surviving, n_cores) for env in v5],
        "atari": [
            *(partial(atari.sampler_rate, game, atari.AtariSize(64, 150, 3), n_cores) for game in ("pong", "breakout")),
            partial(atari.derivatives, 10_000, 5),
        ],
        "many_cores": [
            partial(many_cores.decision_costs, n, atari.AtariSize(lanes, 60, 3))
            for n in many_cores.numbers_of_processes(n_cores)
            for lanes in (8, 32, 64)
        ],
        "update": [partial(updates.derivatives, env, size) for env in ("hopper_v5", "hopper") for size in batches],
        "memory": [partial(updates.memory, "hopper", 1_000_000, (1.0, 0.1))],
        "scaling": [partial(iterations.scaling, 50_000, n_cores, 1, 5)],
        "share": [partial(iterations.update_share, 100, n_cores, 3)],
        "sb3": [
            partial(iterations.against_sb3, 5_000, n_cores, 2, 3),
            partial(iterations.against_sb3, 50_000, n_cores, 1, 2),
        ],
        "training": [partial(iterations.against_zoo, 40_000, n_cores, 3)],
    }


def main(words: Sequence[str]) -> int:
    """Measure what was asked for. The exit status is 0 even if a target is missed."""
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__)
    all_sections = sections(available_cores())
    parser.add_argument("--only", nargs="+", choices=list(all_sections), help="measure only these (default: all)")
    parser.add_argument("--out", type=Path, help="JSON file (default: outputs/bench/HOST-DATE.json)")
    parser.add_argument(
        "--cpu-time", action="store_true", help="measure processor time instead of wall time, except for iterations"
    )
    asked = parser.parse_args(words)
    Clock.now = process_time if asked.cpu_time else perf_counter
    out = asked.out or Path("outputs/bench") / f"{platform.node()}-{strftime('%Y%m%d-%H%M%S')}.json"
    progress = Console(stderr=True)
    table, records, start, busiest = new_table(), [], perf_counter(), 0.0
    for name in asked.only or all_sections:
        for section in all_sections[name]:
            rows, others = watch(section)
            busiest = max(busiest, others)
            for row in rows:
                add(table, row)
                records.append(row.record() | {"cores_of_others": others})
                progress.print(
                    f"{perf_counter() - start:4.0f} s  {row.name}: {row.ratio:.3g} ({others:.1f} cores used by others)"
                )
    wall_s = perf_counter() - start
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if busiest > BUSY:
        print(f"Warning: other programs used up to {busiest:.1f} cores; measure again when the machine is idle.")
    write(out, records, {"wall_s": wall_s, "cpu_time": asked.cpu_time, "most_cores_of_others": busiest})
    print(f"{out} written after {wall_s:.0f} s; load average {os.getloadavg()[0]:.2f}.")
    return 0


def new_table() -> Table:
    """Return a table without rows."""
    table = Table("measured", "ours", "against", "", "ratio", "target", "met")
    for column in (1, 3, 4):
        table.columns[column].justify = "right"
    return table


def add(table: Table, row: Row) -> None:
    """Add one row to the table."""
    record = row.record()
    met = {True: "yes", False: "NO", None: ""}[row.met]
    ours, theirs = (f"{readable(record[key])} {row.unit}" for key in ("ours", "theirs"))
    table.add_row(row.name, ours, row.peer, theirs, f"{row.ratio:.3g}", row.target, met)


def readable(number: float) -> str:
    """Return the number with three digits, or if it is large with all its digits and a separator of thousands."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def write(path: Path, records: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Write the rows, and what they depend on, as one JSON object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run_info() | about | {"rows": records}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
