"""The jobs of whoever is calling, as a list."""

from __future__ import annotations

from collections.abc import Sequence

from evolink_mcp.jobs.job import LOCAL, State
from evolink_mcp.server.answers import TaskList
from evolink_mcp.server.app import App
from evolink_mcp.server.principals import current_allowance, current_key, current_principal
from evolink_mcp.server.results import listed
from evolink_mcp.settings import Settings


async def read_list(app: App, *, states: Sequence[State] = (), limit: int) -> TaskList:
    """Read the newest jobs, and what was spent; the journal is all that is asked.

    Raises:
        JournalUnusable: It cannot be read.
    """
    principal, journal = current_principal(), await app.journal()
    jobs, spent = await journal.overview(principal, states=states, limit=limit)
    return listed(jobs, spent=spent, cap=day_cap(app.settings), caller=app.caller())


def day_cap(settings: Settings) -> float | None:
    """Return the credits that whoever is calling may spend on one day.

    The cap over everybody is the operator's matter, and holds for the server's key; others
    know their own.
    """
    if current_principal() == LOCAL and current_key() is None:
        return settings.daily_credits
    return current_allowance().daily_credits
