"""What JSON can carry: a host may send more than EvoLink can be told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

MOST_LEVELS = 20
"""Lists and objects within each other."""

_LARGEST = 2**63


def is_plain(value: object, *, levels: int = MOST_LEVELS) -> bool:
    """Tell whether a value can be written as JSON: finite, whole characters, not too deep."""
    match value:
        case None | bool():
            return True
        case str():
            return is_encodable(value)
        case int():
            return abs(value) < _LARGEST
        case float():
            return math.isfinite(value)
        case _:
            return levels > 0 and _holds_plain(value, levels=levels - 1)


def _holds_plain(value: object, *, levels: int) -> bool:
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return all(
            isinstance(name, str) and is_encodable(name) and is_plain(each, levels=levels)
            for name, each in items
        )
    if isinstance(value, list | tuple):
        return all(is_plain(each, levels=levels) for each in cast("list[object]", value))
    return False


def is_encodable(text: str) -> bool:
    """Tell whether a text is valid Unicode, without half characters (lone surrogates)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
