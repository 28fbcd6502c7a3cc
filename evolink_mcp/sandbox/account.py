"""The account's credits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Account:
    """What is left and what was spent, in credits."""

    credits: float
    used: float = 0.0

    def charge(self, amount: float) -> None:
        """Take credits, as a submission does."""
        self.credits -= amount
        self.used += amount

    def give_back(self, amount: float) -> None:
        """Return credits, as a failure does."""
        self.charge(-amount)
