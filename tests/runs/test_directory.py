"""Laws of ownership: a run directory belongs to one configuration, and to one living command at a time."""

import json
import os
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.runs.directory import (
    PROGRESS,
    continued_description,
    describe_differences,
    take_lock,
)
from trpo_cli.runs.log import RunLog

IDENTITY: dict[str, Any] = {"seed": 0, "optimizer": {"name": "trpo", "kl_limit": 0.01}, "sizes": (30, 30)}


def opened(directory: Path, identity: dict[str, Any] = IDENTITY, **info: Any) -> RunLog:
    return RunLog.open(directory, {"workers": 2, **identity}, identity, info)


def snapshot(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.rglob("*") if path.is_file()}


def test_the_same_configuration_opens_again_without_a_change(tmp_path: Path) -> None:
    opened(tmp_path / "run").close()
    before = snapshot(tmp_path)
    opened(tmp_path / "run").close()
    changed = {Path(path).name for path, content in snapshot(tmp_path).items() if before.get(path) != content}
    assert changed <= {".lock"}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["identity"]["sizes"] == [30, 30]
    assert "kl_limit: 0.01" in (tmp_path / "run" / ".hydra" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (IDENTITY | {"seed": 1}, "seed=0, but this run has seed=1"),
        (
            IDENTITY | {"optimizer": {"name": "trpo", "kl_limit": 0.02}},
            "optimizer.kl_limit=0.01, .* optimizer.kl_limit=0.02",
        ),
        (IDENTITY | {"extra": 3}, "extra=null, .* extra=3"),
        (
            {"seed": 0, "optimizer": {"name": "trpo", "kl_limit": 0.01}},
            r"sizes=\[30, 30\], .* sizes=null",
        ),
    ],
)
def test_another_configuration_is_refused_by_the_first_key_that_differs(
    tmp_path: Path, other: dict[str, Any], difference: str
) -> None:
    opened(tmp_path / "run").close()
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError, match=rf"run holds a run .*{difference}: .*name="):
        opened(tmp_path / "run", other)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(("found", "cure"), [(1, "scripts/rewrite_runs"), (99, "the version that began it")])
def test_another_format_is_refused_with_what_to_do(found: int, cure: str, tmp_path: Path) -> None:
    opened(tmp_path).close()
    description = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(description | {"format": found}))
    with pytest.raises(ConfigError, match=f"has format {found}.*{cure}.*name="):
        opened(tmp_path)


@pytest.mark.parametrize("name", [PROGRESS, "checkpoint.pt", "done.json"])
def test_a_directory_of_unknown_origin_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("something of value")
    with pytest.raises(ConfigError, match=rf"holds {name} but no run\.json"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_description_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ConfigError, match=r"run\.json .* JSON.*name="):
        opened(tmp_path)


def test_a_directory_in_use_is_refused_by_process_until_it_is_given_back(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(ConfigError, match=rf"in use by process {os.getpid()} on .*name="):
        opened(tmp_path)
    opened(tmp_path).close()


def test_a_dead_command_holds_nothing(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from trpo_cli.runs.directory import take_lock;"
        "take_lock(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == -9
    assert (tmp_path / ".lock").read_text()
    opened(tmp_path).close()


def test_a_failed_start_gives_the_directory_back(tmp_path: Path) -> None:
    (tmp_path / PROGRESS).mkdir(parents=True)
    (tmp_path / "run.json").write_text(json.dumps({"format": 2, "identity": {}}))
    for _ in range(2):  # The second would find it in use.
        with pytest.raises(RunError, match=r"cannot write to .*progress\.jsonl: Is a directory"):
            opened(tmp_path, {})


def test_a_path_that_cannot_be_a_directory_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"^cannot write to .*file/run.*: Not a directory$"):
        opened(tmp_path / "file" / "run")


def test_continuing_elsewhere_is_said(tmp_path: Path) -> None:
    opened(tmp_path, versions={"torch": "2.12"}, cores=2).close()
    with opened(tmp_path, versions={"torch": "2.13"}, cores=2) as log:
        assert log.messages == ["Since this run began, versions.torch was 2.12 and is now 2.13."]
    assert describe_differences({"a": 1, "b": 2}, {"a": 1}) == []


def test_run_json_tells_which_rows_were_computed_where() -> None:
    first = {"cores": 2, "commit": "a", "identity": {"seed": 0}}
    assert continued_description(first, {"cores": 2, "commit": "a"}, 5) == first
    second = continued_description(first, {"cores": 16, "commit": "a"}, 5)
    assert second == first | {"continued": [{"iteration": 5, "cores": 16}]}
    assert continued_description(second, {"cores": 16, "commit": "a"}, 7) == second  # nothing has changed since
    third = continued_description(second, {"cores": 2, "commit": "b"}, 7)
    assert third["continued"] == [{"iteration": 5, "cores": 16}, {"iteration": 7, "cores": 2, "commit": "b"}]
    assert continued_description(third, {"cores": 16, "commit": "a"}, 6) == second  # rows 6 and on are cut off
    assert continued_description(third, {"cores": 2, "commit": "a"}, 4) == first
    assert continued_description(third, {"cores": 4, "commit": "c"}, 0) == first | {"cores": 4, "commit": "c"}


def test_the_lock_names_the_command_and_not_its_worker(tmp_path: Path) -> None:
    worker = get_context("fork").Process(target=take_lock, args=(tmp_path,))
    worker.start()
    worker.join()
    assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()} on ")
