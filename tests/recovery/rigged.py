"""The server with a clock that is wrong, or with less patience for a locked journal.

`RIGGED_CLOCK` is by how many seconds the clock is off, `RIGGED_PATIENCE` how many seconds a
transaction waits for those of other processes.
"""

from __future__ import annotations

import os
import time
from functools import partial

from evolink_mcp.cli import main
from evolink_mcp.jobs import database
from evolink_mcp.jobs.journal import open_journal
from evolink_mcp.server import accounts

OFF_BY = float(os.environ.get("RIGGED_CLOCK", "0"))


def wrong_time() -> float:
    return time.time() + OFF_BY


accounts.open_journal = partial(open_journal, now=wrong_time)  # type: ignore[attr-defined]
patience = os.environ.get("RIGGED_PATIENCE", database.LOCK_SECONDS)
database.LOCK_SECONDS = float(patience)  # type: ignore[misc]
main()
