"""TensorBoard shows what ``progress.jsonl`` holds, after a run was cut back too."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trpo_cli.rundir import PROGRESS
from trpo_cli.runlog import RunLog


def scalars(directory: Path, key: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(directory))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(key)]


def test_holds_the_same_scalars_as_the_rows(tmp_path: Path) -> None:
    for n_rows, factor in ((4, 1.0), (5, 10.0)):
        with RunLog.open(tmp_path, {}, {}, {}) as log:
            state = log.resume() or {"iteration": 0}
            for i in range(state["iteration"], n_rows):
                log.write({"iteration": i, "update/mean_kl": factor * i, "update/accepted": i > 2, "reason": "none"})
                if i == 1:
                    log.save({"iteration": 2})
            # On the disk while the run goes on, not only at its end.
            kls = scalars(tmp_path, "update/mean_kl")
        rows = [json.loads(line) for line in (tmp_path / PROGRESS).read_text().splitlines()]
        assert kls == [(row["iteration"], pytest.approx(row["update/mean_kl"])) for row in rows]
    assert [kl for _, kl in kls] == [0, 1, 20, 30, 40]
    assert scalars(tmp_path, "update/accepted")[-2:] == [(3, 1), (4, 1)]
