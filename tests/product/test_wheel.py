"""What users get: the wheel, installed by itself somewhere else, has everything and runs."""

import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of ``command``, which has to succeed."""
    result = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def files(root: Path, suffix: str) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob(f"*{suffix}") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built through a source distribution, from a copy: a build leaves files beside its sources."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    for name in ("trpo_cli", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    # The environment's own setuptools, pinned: nothing is fetched.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".", cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an installation of the wheel alone."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    run(*pip, "--target", target, wheel, cwd=target)
    return target


def test_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    expected = {f"trpo_cli/{name}" for name in files(ROOT / "trpo_cli", ".py") | files(ROOT / "trpo_cli", ".csv")}
    expected |= {f"trpo_cli/conf/{name}" for name in files(ROOT / "conf", ".yaml")}
    with zipfile.ZipFile(wheel) as archive:
        actual = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert actual == expected


def test_every_console_script_has_its_function() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for line in setup["options.entry_points"]["console_scripts"].strip().splitlines():
        module, _, function = line.partition("=")[2].strip().partition(":")
        source = ROOT / f"{module.replace('.', '/')}.py"
        assert f"\ndef {function}(" in source.read_text(), line


def test_constraints_pin_every_requirement() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in constraints}
    extras = setup["options.extras_require"]
    pinned_extras = ("test", "bench", "joblib", "optuna", "wandb", "mlflow")
    required = " ".join([setup["options"]["install_requires"], *(extras[name] for name in pinned_extras)])
    assert {name.partition(">")[0] for name in required.split()} <= pinned


def test_runs_far_from_the_clone(installed: Path, tmp_path: Path) -> None:
    where = "import trpo_cli; print(trpo_cli.__file__)"
    assert Path(run(sys.executable, "-c", where, cwd=tmp_path, PYTHONPATH=str(installed)).strip()).is_relative_to(
        installed
    )
    help_text = run(sys.executable, "-m", "trpo_cli", "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    # The choices of a group are read from the configuration that was installed.
    for path in (ROOT / "conf" / "optimizer").glob("*.yaml"):
        assert path.stem in help_text
    assert list(tmp_path.iterdir()) == []
