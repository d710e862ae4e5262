"""TensorBoard shows what ``progress.jsonl`` holds, after a run was cut back too, and what the run was."""

import json
from pathlib import Path

import numpy as np
import pytest
from compose import executed, planned
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.util.tensor_util import make_ndarray

from trpo_cli.loggers.tensorboard import TensorBoard
from trpo_cli.runs.files import PROGRESS
from trpo_cli.runs.log import RunLog
from trpo_cli.runs.tensorboard import CHARTS, KL_LIMIT, flat_settings


def events(directory: Path) -> EventAccumulator:
    found = EventAccumulator(str(directory))
    found.Reload()
    return found


def scalars(directory: Path, key: str) -> list[tuple[int, float]]:
    found = events(directory).Tensors(key)
    return [(event.step, make_ndarray(event.tensor_proto).item()) for event in found]


def test_holds_the_same_scalars_as_the_rows(tmp_path: Path) -> None:
    for n_rows, factor in ((4, 1.0), (5, 10.0)):
        with RunLog.open(tmp_path, {"checkpoint_every": 2}, {}, {}, [TensorBoard()]) as log:
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


def test_the_returns_of_every_iteration_are_a_histogram_and_no_part_of_a_row(tmp_path: Path) -> None:
    for n_rows in (3, 4):  # the second time it resumes from the second row
        with RunLog.open(tmp_path, {"checkpoint_every": 2}, {}, {}, [TensorBoard()]) as log:
            for i in range((log.resume() or {"iteration": 0})["iteration"], n_rows):
                log.write({"iteration": i, "collect/episode_returns": (1.0, 1.0 + i, 4.0, float("nan"))})
                if i == 1:
                    log.save({"iteration": 2})
    found = events(tmp_path).Tensors("collect/episode_returns")
    assert [event.step for event in found] == [0, 1, 2, 3]
    left, right, counts = make_ndarray(found[-1].tensor_proto).T
    assert (left[0], right[-1], counts.sum(), counts[0], counts[-1]) == (1, 4, 3, 1, 2)
    assert "episode_returns" not in (tmp_path / PROGRESS).read_text()


def test_a_run_is_one_row_of_the_table_of_hyperparameters_with_its_end(tmp_path: Path) -> None:
    plan = planned("iterations=2", "sampler.n_paths=4", "step_limit=20", "seed=3", f"outputs={tmp_path}")
    run = executed(plan)
    contents = events(run).PluginTagToContent(hparams.PLUGIN_NAME)
    start = hparams.parse_session_start_info_plugin_data(contents[hparams.SESSION_START_INFO_TAG])
    values = {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}
    assert values == flat_settings(plan.config, {"env": "cartpole", "optimizer": "trpo"} | plan.options)
    chosen = {key: values[key] for key in ("env", "sampler", "seed", "optimizer.kl_limit", "sampler.standardise")}
    assert chosen == {"env": "cartpole", "sampler": "single", "seed": 3, "optimizer.kl_limit": 0.01} | {
        "sampler.standardise": True
    }
    assert values["sampler.steps_per_iteration"] == "null" and values["policy.input_clip"] == "inf"
    assert hparams.parse_session_end_info_plugin_data(contents[hparams.SESSION_END_INFO_TAG]).status == 1  # success
    # What the table shows of a run is the last value of its scalars.
    last = json.loads((run / PROGRESS).read_text().splitlines()[-1])
    assert scalars(run, "collect/score")[-1] == (1, pytest.approx(last["collect/score"]))


def test_the_page_of_charts_draws_scalars_that_exist(tmp_path: Path) -> None:
    words = ("iterations=1", "sampler.n_paths=4", "step_limit=20", "optimizer.kl_slack=2", f"outputs={tmp_path}")
    run = executed(planned(*words))
    found = events(run)
    (event,) = found.Tensors(CONFIG_SUMMARY_TAG)
    layout = layout_pb2.Layout.FromString(make_ndarray(event.tensor_proto).item())
    drawn = [[tag.strip("^$") for tag in chart.multiline.tag] for chart in layout.category[0].chart]
    assert drawn == [list(keys) for keys in CHARTS.values()]
    assert drawn[0] == ["collect/score"] and {"update/mean_kl", "time/steps_per_s"} < set(np.concatenate(drawn))
    assert set(np.concatenate(drawn)) <= set(found.Tags()["tensors"])
    assert scalars(run, "0_first/score") == scalars(run, "collect/score")
    assert scalars(run, KL_LIMIT) == [(0, pytest.approx(0.02))]
