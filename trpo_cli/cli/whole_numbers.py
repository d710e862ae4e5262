"""``total_steps=1e6`` on the command line is ``total_steps=1000000``: Hydra would take it as a real number."""

import re
from collections.abc import Sequence
from dataclasses import fields
from decimal import Decimal

from trpo_cli.config.messages import LARGEST
from trpo_cli.config.schema import Root

WHOLE = {field.name for field in fields(Root) if field.type in (int, int | None)}


def with_whole_numbers(words: Sequence[str]) -> list[str]:
    """The words with ``1e6`` and ``1000000.0`` as ``1000000``, if their key takes whole numbers only.

    The keys of components are not known here: `trpo_cli.config.build.build` does the same for them.
    """
    return [_rewritten(word) for word in words]


def _rewritten(word: str) -> str:
    key, equals, value = word.partition("=")
    if key.lstrip("+") not in WHOLE:
        return word
    return key + equals + ",".join(_whole(part) for part in value.split(","))  # a sweep has commas


def _whole(text: str) -> str:
    """The number without point and exponent if it is whole; any other text as it is."""
    if not re.fullmatch(r"\d+(\.\d*)?([eE]\+?\d{1,2})?", text):
        return text
    number = Decimal(text)
    return str(int(number)) if number == int(number) and number < LARGEST and not text.isdigit() else text
