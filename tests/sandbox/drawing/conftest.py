from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def pictures_are_not_smoothed() -> None:
    """Here they are, as everywhere but in tests."""
