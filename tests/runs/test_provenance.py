"""What ``run.json`` says about where results come from, and what it must not say."""

import getpass
import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from trpo_cli.runs import provenance
from trpo_cli.runs.provenance import run_info


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_names_versions_and_processor_and_no_person_or_place() -> None:
    info = run_info()
    assert info["processor"]
    assert info["cores"] >= 1
    text = json.dumps(info)
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text
    assert getpass.getuser() not in text


@pytest.mark.parametrize("package", ["torch", "numpy", "scipy", "mujoco", "gymnasium", "ale-py", "cma", "trpo_cli"])
def test_the_version_of_every_package_that_results_depend_on_is_named(package: str) -> None:
    assert run_info()["versions"][package] == provenance._version(package)
    if package != "trpo_cli":  # which is not installed in a bare checkout
        assert run_info()["versions"][package] == version(package)


def test_commit_is_that_of_the_checkout_with_what_was_changed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "trpo_cli"
    package.mkdir()
    (package / "provenance.py").write_text("")
    monkeypatch.setattr(provenance, "__file__", str(package / "runs" / "provenance.py"))
    assert (run_info()["commit"], run_info()["dirty"]) == (None, None)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "notes").write_text("no code")
    assert (run_info()["commit"], run_info()["dirty"]) == (git(tmp_path, "rev-parse", "HEAD"), False)
    (package / "new.py").write_text("")
    assert run_info()["dirty"] is True
