"""A stream without a character gets another one, and no exception."""

import ast
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

import trpo_cli
from trpo_cli.cli.encoding import IN_ASCII, print_anything

ROOMS = ("cli", "config", "sims", "policies")
NAMED = ("read_text", "write_text")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"0.5 +- 0.1... ? \xff"),
        ("latin-1", b"0.5 \xb1 0.1... ? \xff"),
        ("utf-8", "0.5 ± 0.1… λ ".encode() + b"\xff"),
    ],
)
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # the latter is the C locale's
def test_what_is_printed_reaches_a_stream_of_any_encoding(
    encoding: str, shown: bytes, errors: str, monkeypatch: pytest.MonkeyPatch
):
    streams = [TextIOWrapper(BytesIO(), encoding, errors) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    print_anything()
    for stream in streams:
        print("0.5 ± 0.1… λ \udcff", file=stream, end="", flush=True)
        assert stream.buffer.getvalue() == shown  # type: ignore[attr-defined]
    assert all(text.isascii() for text in IN_ASCII.values())


def test_a_stream_that_is_no_text_stream_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", None)  # as pythonw has it
    print_anything()


@pytest.mark.parametrize("room", ROOMS)
def test_text_files_are_read_and_written_as_utf_8_in_every_locale(room: str):
    for path in (Path(trpo_cli.__file__).parent / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in NAMED:
                assert "encoding" in [word.arg for word in node.keywords], f"{path}:{node.lineno}"
