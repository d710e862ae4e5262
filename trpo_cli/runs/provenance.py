"""What the results of a run depend on besides its configuration, for ``run.json``."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trpo_cli.parallel.cores import available_cores

PACKAGES = ("torch", "numpy", "scipy", "mujoco", "gymnasium", "ale-py", "cma", "trpo_cli")


def run_info() -> dict[str, Any]:
    """Return versions, commit, processor and platform.

    versions: of Python and of each of `PACKAGES`, by its name
    commit: of the source checkout that the package is imported from, None for an installed wheel
    dirty: True if the code or the configuration there differs from that commit
    """
    commit, dirty = _commit(Path(__file__).resolve().parents[2])
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "commit": commit,
        "dirty": dirty,
        "processor": _processor(),
        "cores": available_cores(),
        "platform": platform.platform(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # trpo_cli itself, if it runs from a checkout that is not installed
        return None


def _commit(root: Path) -> tuple[str | None, bool | None]:
    # A wheel may be installed inside some other repository, whose commit says nothing about our code.
    if not (root / ".git").exists():
        return None, None
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--", "trpo_cli", "conf"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit.strip(), bool(changes)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
