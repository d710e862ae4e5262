"""W&B's own files, read back. Skipped without its package: pip install -c constraints.txt -e '.[wandb]'."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compose import planned
from subprocesses import progress

from trpo_cli.runs.log import RunLog

wandb = pytest.importorskip("wandb")
# The logger's process inherits pytest's filters, and packages that are newer may warn.
pytestmark = pytest.mark.filterwarnings("ignore")
BLOCK, HEADER = 32768, struct.Struct("<IHB")  # of LevelDB's log format: checksum, length, kind


def records(path: Path) -> Iterator[Any]:
    """What a ``.wandb`` file holds."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""  # the file has a header of 7 bytes
    while at + HEADER.size <= len(data):
        if BLOCK - at % BLOCK < HEADER.size:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(data, at)
        parts += data[at + HEADER.size : at + HEADER.size + length]
        at += HEADER.size + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def row(i: int) -> dict[str, Any]:
    return {"iteration": i, "sim_steps_total": 10 * i, "collect/score": i / 3, "kl": float("nan"), "why": "w"}


def run(directory: Path, n_rows: int) -> None:
    words = ("logger=wandb", "logger.wandb.mode=offline", "logger.wandb.tags=[a]", "logger.wandb.group=g")
    plan = planned(*words, f"outputs={directory.parent}", "iterations=9")
    info = {"command": "trpo-train x", "commit": "abc", "options": plan.options}
    with RunLog.open(directory, plan.config, {}, info, plan.loggers) as log:
        for i in range((log.resume() or {"iteration": 0})["iteration"], n_rows):
            log.write(row(i))
        log.save({"iteration": n_rows})
        log.finish({})
        assert log.take_messages() == []


def test_the_files_hold_the_rows_the_settings_and_where_they_come_from(tmp_path: Path):
    for n_rows in (3, 5):
        run(tmp_path / "a", n_rows)
    first, second = sorted((tmp_path / "a/wandb").glob("offline-run-*/*.wandb"))
    assert first.name == second.name == f"run-{(tmp_path / 'a/logger_id').read_text().strip()}.wandb"
    assert (tmp_path / "a/wandb/latest-run").resolve() == second.parent
    for file, n_rows in ((first, 3), (second, 5)):
        found = list(records(file))
        rows = {r.history.step.num: r.history.item for r in found if r.WhichOneof("record_type") == "history"}
        values = [
            {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in rows[i]}
            for i in range(n_rows)
        ]
        known = [{key: value for key, value in row.items() if value is not None} for row in progress(tmp_path / "a")]
        assert (
            len(rows) == n_rows and [{k: v for k, v in row.items() if k[0] != "_"} for row in values] == known[:n_rows]
        )
        (about,) = [r.run for r in found if r.WhichOneof("record_type") == "run"]
        config = {item.key: json.loads(item.value_json) for item in about.config.update}
        assert (about.project, about.run_group, about.display_name, list(about.tags)) == ("trpo_cli", "g", "a", ["a"])
        assert (config["seed"], config["optimizer"]["kl_limit"], config["policy"]["input_clip"]) == (0, 0.01, "inf")
        assert (config["command"], config["commit"], config["options"]["sampler"]) == ("trpo-train x", "abc", "single")
        (axis,) = [r.metric for r in found if r.WhichOneof("record_type") == "metric"]
        assert (axis.glob_name, axis.step_metric) == ("*", "sim_steps_total")
