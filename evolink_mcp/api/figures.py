"""What has passed between us and EvoLink, in plain numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from evolink_mcp.errors import EvolinkError

BOUNDS: Final = (5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0)
"""Seconds; a picture takes from some seconds to some minutes (EvoLink docs)."""


@dataclass(slots=True)
class Durations:
    """How many things took how long."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    """Up to each of `BOUNDS` and above the one before it; the last beyond them all."""
    seconds: float = 0.0
    """All of them together."""

    def add(self, seconds: float) -> None:
        """Count one that took so many seconds."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


@dataclass(slots=True)
class Figures:
    """Counted since this process began; nothing in it tells of a person, a task or a prompt."""

    readings: int = 0
    """Tries to read a task's status."""
    errors: Counter[str] = field(default_factory=Counter[str])
    """Exchanges that failed, by our word for the kind of failure."""
    to_picture: dict[str, Durations] = field(default_factory=dict[str, Durations])
    """From the intent to the saved pictures, by model."""

    @contextmanager
    def noting_errors(self) -> Generator[None]:
        """Count a failure that passes by."""
        try:
            yield
        except EvolinkError as error:
            self.errors[error.code] += 1
            raise

    def pictured(self, model: str, seconds: float) -> None:
        """Count a job whose pictures are all saved, so many seconds after its intent."""
        self.to_picture.setdefault(model, Durations()).add(seconds)
