"""Imports point one way: a module knows only what stands above it in the table."""

import ast
from pathlib import Path

import pytest

import trpo_cli

# From the ground up; a name that ends in .* covers the modules of that package not named before.
LAYERS = [
    {"errors", "manual", "settings"},
    {"checkpoint"},
    {"rundir", "mirror"},
    {"sims.picture"},
    {
        "numerics",
        "distributions",
        "world",
        "seeding",
        "sims.base",
        "config",
        "provenance",
        "devices",
        "runlog",
        "display",
        "theory",
    },
    {"sims.screens", "sims.centre_of_mass", "sims.mujoco_engine", "dense"},
    {"sims.*", "policies", "sentences"},
    {"convolutions"},
    {"rollouts", "batch"},
    {"episodes", "optimizers.base", "optimizers.cem"},
    {"samplers"},
    {"optimizers.directions"},
    {"optimizers.line_search"},
    {"optimizers.*"},
    {"algorithms", "input_range"},
    {"trainer", "unread"},
    {"video"},
    {"assembly", "sweeps", "sweep_table", "workers", "evaluation"},
    {"stopping"},
    {"cli"},
    {"__main__", "benchmarks.measure", "benchmarks.tasks"},
    {"benchmarks.updates", "benchmarks.sampling"},
    {"benchmarks.*"},
    {"benchmarks.__main__"},
]
# Figures are drawn from files alone, so these know errors and one another, and no other module knows them.
REPORT = [
    {"reports.runs"},
    {"reports.curves", "reports.tables"},
    {"reports.records", "reports.atari"},
    {"reports.*"},
    {"report"},
    {"jobs"},
    {"reproduce"},
]
FOREIGN = {
    "numerics": {"gymnasium", "mujoco", "ale_py", "hydra", "omegaconf"},
    "distributions": {"gymnasium", "mujoco", "ale_py", "hydra", "omegaconf"},
    "sims.*": {"torch", "hydra", "omegaconf"},
    "optimizers.*": {"gymnasium", "mujoco", "ale_py", "hydra", "omegaconf"},
    "report": {"torch", "gymnasium", "mujoco", "ale_py", "hydra"},
    "reports.*": {"torch", "gymnasium", "mujoco", "ale_py", "hydra"},
}
PACKAGE = Path(trpo_cli.__file__).parent


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def place(module: str, layers: list[set[str]]) -> int | None:
    """Layer of ``module``, counted from the ground; None if ``layers`` have none."""
    for name in (module, package_of(module)):
        for number, layer in enumerate(layers):
            if name in layer:
                return number
    return None


def package_of(module: str) -> str:
    return module.rpartition(".")[0] + ".*"


def imports(module: str) -> tuple[set[str], set[str]]:
    """Modules of ours that ``module`` imports anywhere in its text, and top-level names of others."""
    tree = ast.parse(MODULES[module].read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: write the full name"
            assert node.module is not None
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found = {name for name in inside if name.removeprefix("trpo_cli.") in MODULES}
            names |= found or {node.module}
    ours = {name.removeprefix("trpo_cli").lstrip(".") for name in names if name.partition(".")[0] == "trpo_cli"}
    return ours, {name.partition(".")[0] for name in names} - {"trpo_cli"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_from_the_layers_below_it(module: str) -> None:
    ours, others = imports(module)
    assert not others & (FOREIGN.get(module, set()) | FOREIGN.get(package_of(module), set()))
    if MODULES[module].name == "__init__.py":
        assert not ours, "a package says what it is and imports nothing"
        return
    layers = LAYERS if place(module, REPORT) is None else [{"errors", "theory", "settings"}, *REPORT]
    own = place(module, layers)
    assert own is not None, f"{module} has no place in the table of layers"
    for name in ours:
        below = place(name, layers)
        assert below is not None, f"{module} imports {name}, which has no place among its layers"
        assert below < own, f"{module} imports {name}, which is not below it"


def test_the_table_names_no_module_twice() -> None:
    names = [name for layer in [*LAYERS, *REPORT] for name in layer]
    assert len(names) == len(set(names))
