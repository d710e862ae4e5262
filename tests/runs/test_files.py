"""What every reader of a run directory shares."""

import subprocess
import sys
from pathlib import Path

from trpo_cli.runs.files import PROGRESS, flat, last_row


def test_nested_settings_are_flattened_to_dotted_keys() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


def test_the_last_row_is_the_last_complete_one(tmp_path: Path) -> None:
    assert last_row(tmp_path) is None
    for content, row in (("", None), ('{"a": 0}\n{"a": 1}\n', {"a": 1}), ('{"a": 0}\n{"a"', {"a": 0}), ('{"a"', None)):
        (tmp_path / PROGRESS).write_text(content)
        assert last_row(tmp_path) == row


def test_it_does_not_import_torch() -> None:
    subprocess.run(
        [sys.executable, "-c", "import sys, trpo_cli.runs.files; sys.exit('torch' in sys.modules)"], check=True
    )
