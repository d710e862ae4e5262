"""Tables as Markdown and as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

NONE = "–"  # a cell without a value


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table. Its columns are padded, so that it can be read as plain text too."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (headers, rule, *rows)
    )


def write_csv(path: Path, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write ``rows`` under ``headers`` to ``path``."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(headers)
        writer.writerows(rows)


def write_table(file: Path, headers: Sequence[str], rows: Sequence[Sequence[str]], text: str) -> str:
    """Write the CSV ``file`` and, beside it, ``text`` as Markdown. Return ``text``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_csv(file, headers, rows)
    file.with_suffix(".md").write_text(text)
    return text


def number(value: float) -> str:
    """Return a whole number of up to nine digits in full, and any other number with four significant digits."""
    return f"{value:.0f}" if abs(value) < 1e9 and value == round(value) else f"{value:.4g}"


def count(value: float) -> str:
    """Return a number of steps as the paper prints it: 50K, 1.02M."""
    for unit, name in ((1e6, "M"), (1e3, "K")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.0f}"
