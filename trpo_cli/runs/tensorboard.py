"""The rows of a run for TensorBoard: scalars, the returns' distribution, hyperparameters and a page of charts.

Written without ``torch.utils.tensorboard.SummaryWriter``: no thread that a fork would lose or that would report a full
disk by a traceback of its own, one record a row, on its way to the disk as soon as the row is.
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

# What people look at first, once more under a name that TensorBoard sorts before all others: on the page it opens with
# and among the few metrics that the HPARAMS table shows unasked.
FIRST = "0_first/"
FIRST_KEYS = {f"{FIRST}{key.partition('/')[2]}": key for key in ("collect/score", "update/mean_kl", "time/steps_per_s")}
KL_LIMIT = "update/kl_limit"  # constant, and in no row
# Title of a chart: the keys it draws.
CHARTS = {
    "score: mean return of an episode / its step limit": ("collect/score",),
    "mean KL(old ‖ new) of a step and its limit, nats": ("update/mean_kl", KL_LIMIT),
    "largest KL(old ‖ new) at any state, nats": ("update/max_kl",),
    "simulated steps a second": ("time/steps_per_s",),
}


class TensorBoardMirror:
    """One event file in ``directory``; what earlier files hold from ``first_iteration`` on no longer counts.

    settings: hyperparameters by name, see `flat_settings`; they make the run a row of the HPARAMS table
    """

    def __init__(self, directory: Path, first_iteration: int, settings: Mapping[str, Any]) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{os.getpid()}"
        self._file = (directory / name).open("ab", buffering=0)
        self._records = RecordWriter(self._file)
        self._constants = _limits(settings)
        self._add(Event(file_version="brain.Event:2", step=first_iteration))
        self._add(Event(session_log=SessionLog(status=SessionLog.START), step=first_iteration))
        self._add(Event(summary=_layout(), step=first_iteration))
        if settings:
            self._add(Event(summary=hparams_pb(dict(settings), trial_id=str(directory)), step=first_iteration))

    def write(self, row: Mapping[str, Any], distributions: Mapping[str, Sequence[float]] | None = None) -> None:
        """Mirrors the numbers of ``row``, each under its key, at step ``row["iteration"]``, and histograms beside."""
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
        """Says that the run has come to its end."""
        end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
        content = plugin_data_pb2.HParamsPluginData(session_end_info=end)
        value = Summary.Value(tag=hparams.SESSION_END_INFO_TAG, metadata=hparams.create_summary_metadata(content))
        value.tensor.CopyFrom(hparams.NULL_TENSOR)
        self._add(Event(summary=Summary(value=[value]), step=iteration))

    def close(self) -> None:
        """Ends the file; nothing is left to flush."""
        self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def flat_settings(config: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
    """What decides a run's results, flat, as TensorBoard takes it: ``{"env": "hopper", "sampler.gamma": 0.99, …}``.

    config: the composed configuration. options: the option chosen for each group
    """
    settings: dict[str, Any] = dict(options)
    for name in ("seed", "iterations", "path_scale"):
        if name in config:
            settings[name] = _plain(config[name])
    for group in ("env", "policy", "sampler", "optimizer"):
        for name, value in (config.get(group) or {}).items():
            if name != "_target_":
                settings[f"{group}.{name}"] = _plain(value)
    return settings


def _plain(value: Any) -> float | str | bool:
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return "null" if value is None else str(value)


def _limits(settings: Mapping[str, Any]) -> dict[str, float]:
    """The divergence up to which a step is accepted, where the optimizer has such a limit."""
    limit, slack = (settings.get(f"optimizer.{name}") for name in ("kl_limit", "kl_slack"))
    return {KL_LIMIT: limit * (slack or 1.0)} if isinstance(limit, int | float) else {}


def _layout() -> Summary:
    """The charts of the CUSTOM SCALARS page."""
    charts = [
        layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"^{key}$" for key in keys]))
        for title, keys in CHARTS.items()
    ]
    layout = layout_pb2.Layout(category=[layout_pb2.Category(title="How it goes", chart=charts)])
    value = Summary.Value(tag=custom_scalar.CONFIG_SUMMARY_TAG, metadata=custom_scalar.create_summary_metadata())
    value.tensor.CopyFrom(make_tensor_proto(layout.SerializeToString()))
    return Summary(value=[value])
