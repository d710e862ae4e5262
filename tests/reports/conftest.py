"""What the tests of reports share."""

from functools import partial
from pathlib import Path

import pytest
from run_directories import MakeRun, write_run


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A function that writes one run directory below ``tmp_path / "outputs"`` and returns it."""
    return partial(write_run, tmp_path)
