"""MLflow's database, read back. Skipped without its package: pip install -c constraints.txt -e '.[mlflow]'."""

from pathlib import Path
from typing import Any

import pytest
from compose import planned

from trpo_cli.runs.log import RunLog

mlflow = pytest.importorskip("mlflow")
# The logger's process inherits pytest's filters, and packages that are newer may warn.
pytestmark = pytest.mark.filterwarnings("ignore")


def row(i: int) -> dict[str, Any]:
    return {"iteration": i, "sim_steps_total": 10 * i, "collect/score": i / 3, "kl": float("nan"), "why": "w"}


def run(directory: Path, n_rows: int, *words: str, finish: bool = True) -> list[str]:
    """Go on with a run, and save it if it finishes; the sentences for the user."""
    plan = planned("logger=mlflow", f"outputs={directory.parent}", "checkpoint_every=5", *words)
    info = {"command": "trpo-train x", "commit": "abc", "options": {"env": "cartpole"}}
    with RunLog.open(directory, plan.config, {}, info, plan.loggers) as log:
        for i in range((log.resume() or {"iteration": 0})["iteration"], n_rows):
            log.write(row(i))
        if finish:
            log.save({"iteration": n_rows})
            log.finish({})
        else:
            log.close_loggers()
        return [message for message in log.take_messages() if "logger" in message]


def test_the_store_holds_each_row_once_the_settings_and_where_they_come_from(tmp_path: Path):
    directory = tmp_path / "a"
    assert run(directory, 3) == []
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{directory}/mlflow.db")

    def the_run() -> Any:
        (found,) = client.search_runs([client.get_experiment_by_name("trpo_cli").experiment_id])
        return found

    before = the_run().info.run_id
    assert run(directory, 5, finish=False) == [] and the_run().info.status == "KILLED"
    assert run(directory, 6, "iterations=6") == [] and the_run().info.status == "FINISHED"
    data, info = the_run().data, the_run().info
    assert (info.run_id, info.run_name) == (before, "a")
    assert (data.tags["command"], data.tags["mlflow.source.git.commit"]) == ("trpo-train x", "abc")
    chosen = {key: data.params[key] for key in ("seed", "env", "optimizer.kl_limit", "sampler.standardise")}
    assert chosen == {"seed": "0", "env": "cartpole", "optimizer.kl_limit": "0.01", "sampler.standardise": "True"}
    assert data.metrics.keys() == {"sim_steps_total", "collect/score"}
    history = client.get_metric_history(before, "collect/score")
    assert sorted((m.step, m.value) for m in history) == [(i, i / 3) for i in range(6)]


def test_a_server_that_does_not_answer_costs_the_run_nothing(tmp_path: Path):
    words = ("logger.mlflow.tracking_uri=http://127.0.0.1:9", "logger.mlflow.wait_s=0.5")
    (sentence,) = run(tmp_path / "a", 2, *words)
    assert sentence.startswith("logger.mlflow has failed, the run has not: ")
    assert (tmp_path / "a/done.json").exists()
