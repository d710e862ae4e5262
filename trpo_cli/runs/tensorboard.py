"""The rows of a run for TensorBoard: scalars, a histogram of the returns, hyperparameters and a page of charts.

This does not use ``torch.utils.tensorboard.SummaryWriter``. That writes in a thread, which a fork would lose and which
prints a traceback if the disk is full. Here each row is one record, on its way to the disk as soon as it is written.
"""

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from trpo_cli.runs.files import flat

GROUPS = ("env", "policy", "sampler", "optimizer", "critic")  # of the configuration, whose settings are hyperparameters
# TensorBoard sorts scalars by name. These copies come first, on the page that opens and in the HPARAMS table.
FIRST_KEYS = {
    f"0_first/{key.partition('/')[2]}": key for key in ("collect/score", "update/mean_kl", "time/steps_per_s")
}
KL_LIMIT = "update/kl_limit"  # a constant that is not in the rows
CHARTS = {  # title: the keys that the chart draws
    "score: mean return of an episode / its step limit": ("collect/score",),
    "mean KL(old ‖ new) of a step and its limit, nats": ("update/mean_kl", KL_LIMIT),
    "largest KL(old ‖ new) at any state, nats": ("update/max_kl",),
    "simulated steps per second": ("time/steps_per_s",),
}


class TensorBoardMirror:
    """One event file in ``directory``. It replaces what earlier event files hold from ``first_iteration`` on.

    settings: hyperparameters by name (see `flat_settings`); with them the run is a row of the HPARAMS table
    """

    def __init__(self, directory: Path, first_iteration: int, settings: Mapping[str, Any]) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{os.getpid()}"
        self._file = (directory / name).open("ab", buffering=0)
        self._records = RecordWriter(self._file)
        self._constants = _kl_limit(settings)
        self._add(Event(file_version="brain.Event:2", step=first_iteration))
        self._add(Event(session_log=SessionLog(status=SessionLog.START), step=first_iteration))
        self._add(Event(summary=_page_of_charts(), step=first_iteration))
        if settings:
            self._add(Event(summary=hparams_pb(dict(settings), trial_id=str(directory)), step=first_iteration))

    def write(self, row: Mapping[str, Any], distributions: Mapping[str, Sequence[float]] | None = None) -> None:
        """Write each number of ``row`` under its key, and each distribution as a histogram, at the row's iteration."""
        first = {tag: row[key] for tag, key in FIRST_KEYS.items() if key in row}
        values = [
            Summary.Value(tag=key, simple_value=value)
            for key, value in {**row, **first, **self._constants}.items()
            if isinstance(value, int | float) and key != "iteration"
        ]
        for key, numbers in (distributions or {}).items():
            values += histogram_pb(key, [x for x in numbers if math.isfinite(x)]).value
        self._add(Event(summary=Summary(value=values), step=row["iteration"]))

    def finish(self, iteration: int) -> None:
        """Mark the run as finished in the HPARAMS table."""
        end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
        content = plugin_data_pb2.HParamsPluginData(session_end_info=end)
        value = Summary.Value(tag=hparams.SESSION_END_INFO_TAG, metadata=hparams.create_summary_metadata(content))
        value.tensor.CopyFrom(hparams.NULL_TENSOR)
        self._add(Event(summary=Summary(value=[value]), step=iteration))

    def close(self) -> None:
        """Close the file. It has no buffer, so nothing is left to write."""
        self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def flat_settings(config: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that decide a run's results: ``{"env": "hopper", "sampler.gamma": 0.99, …}``.

    config: the composed configuration. options: the option chosen for each group
    """
    numbers = {name: config[name] for name in ("seed", "path_scale") if name in config}
    settings = {**options, **numbers, **flat({group: config.get(group) or {} for group in GROUPS})}
    return {key: _hyperparameter(value) for key, value in settings.items() if not key.endswith("._target_")}


def _hyperparameter(value: Any) -> float | str | bool:
    """Return ``value`` if TensorBoard takes it as a hyperparameter, otherwise as text."""
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return "null" if value is None else str(value)


def _kl_limit(settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the largest KL of a step that is accepted, or nothing if the optimizer has no such limit."""
    limit, slack = (settings.get(f"optimizer.{name}") for name in ("kl_limit", "kl_slack"))
    return {KL_LIMIT: limit * (slack or 1.0)} if isinstance(limit, int | float) else {}


def _page_of_charts() -> Summary:
    """Return the page CUSTOM SCALARS."""
    charts = [
        layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"^{key}$" for key in keys]))
        for title, keys in CHARTS.items()
    ]
    layout = layout_pb2.Layout(category=[layout_pb2.Category(title="Progress of the run", chart=charts)])
    value = Summary.Value(tag=custom_scalar.CONFIG_SUMMARY_TAG, metadata=custom_scalar.create_summary_metadata())
    value.tensor.CopyFrom(make_tensor_proto(layout.SerializeToString()))
    return Summary(value=[value])
