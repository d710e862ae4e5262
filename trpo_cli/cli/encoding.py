"""What is printed on a stream that cannot show every character: the terminal of another locale, or a pipe in ASCII."""

import codecs
import sys
from io import TextIOWrapper

# Characters of our own sentences and tables, in ASCII.
IN_ASCII = {"±": "+-", "…": "...", "‖": "||", "×": "x", "→": "->", "–": "-", "≤": "<=", "≥": ">="}


def _replaced(error: UnicodeError) -> tuple[bytes, int]:
    """For `codecs`: what is written instead of the characters that the stream does not have."""
    assert isinstance(error, UnicodeEncodeError)
    return b"".join(map(_in_ascii, error.object[error.start : error.end])), error.end


def _in_ascii(character: str) -> bytes:
    if "\udc80" <= character <= "\udcff":  # a byte of a path that is no text: Python reads it so, and writes it back
        return bytes([ord(character) - 0xDC00])
    return IN_ASCII.get(character, "?").encode("ascii")


def print_anything() -> None:
    """Let standard output and the error stream replace what they cannot encode, instead of raising an exception."""
    codecs.register_error("in_ascii", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="in_ascii")
