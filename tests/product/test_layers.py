"""Imports point one way: a room knows only the rooms that stand before it in the table."""

import ast
from pathlib import Path

import pytest

import trpo_cli

# A module imports from its own room and from rooms that come earlier.
ROOMS = (
    "errors",
    "parallel",
    "sims",
    "policies",
    "runs",
    "loggers",
    "samplers",
    "optimizers",
    "critics",
    "training",
    "config",
    "cli",
)
READS_FILES_ONLY = "reports"  # it knows errors, and only the command that draws them knows it
# What a room may not import from elsewhere.
FOREIGN = {
    "sims": {"torch", "hydra", "omegaconf"},
    "policies": {"gymnasium", "mujoco", "ale_py", "hydra", "omegaconf"},
    "samplers": {"gymnasium", "mujoco", "ale_py", "hydra", "omegaconf"},
    "critics": {"gymnasium", "mujoco", "ale_py", "hydra", "omegaconf"},
    "optimizers": {"gymnasium", "mujoco", "ale_py", "hydra", "omegaconf"},
    "reports": {"torch", "gymnasium", "mujoco", "ale_py", "hydra"},
}
PACKAGE = Path(trpo_cli.__file__).parent
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}


def room(module: str) -> str:
    """``samplers`` for ``samplers/vine.py`` and for ``trpo_cli.samplers.vine``."""
    return module.removeprefix("trpo_cli.").replace("/", ".").removesuffix(".py").partition(".")[0]


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports anywhere in its text."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{path} imports relatively: write the full name"
            names |= {f"trpo_cli.{alias.name}" for alias in node.names} if node.module == "trpo_cli" else {node.module}
    return names


def allowed(own: str) -> set[str]:
    if own == READS_FILES_ONLY:
        return {"errors", own}
    return {*ROOMS[: ROOMS.index(own) + 1], *([READS_FILES_ONLY] if own == "cli" else [])}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_from_its_own_room_and_those_before_it(module: str) -> None:
    own = "cli" if module in ("__init__.py", "__main__.py") else room(module)
    names = imported(MODULES[module])
    ours = {room(name) for name in names if name.startswith("trpo_cli.")}
    assert ours <= allowed(own), f"{module} imports {sorted(ours - allowed(own))}"
    assert not {name.partition(".")[0] for name in names} & FOREIGN.get(own, set())


def test_every_room_of_the_table_is_there_and_no_other() -> None:
    found = {room(module) for module in MODULES if module not in ("__init__.py", "__main__.py")}
    assert found == {*ROOMS, READS_FILES_ONLY}


def test_a_handful_of_files_lie_beside_the_rooms() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}
