"""How rules and values are said to a reader."""

from __future__ import annotations

import json
from collections.abc import Iterable

_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


def either(values: Iterable[object]) -> str:
    """Say alternatives: "1, 2 or 4"."""
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


def shown(value: object) -> str:
    """Show a wrong value: in quotes, cut, without control characters."""
    text = value if isinstance(value, str) else _as_json(value)
    beginning = text[: _SHOWN + 1]
    printable = "".join(char if char.isprintable() else "?" for char in beginning)
    return f'"{printable[:_SHOWN]}…"' if len(printable) > _SHOWN else f'"{printable}"'


def _as_json(value: object) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__  # no JSON, or too deep or too long a number to be written
