"""Log lines to stderr: one an event, without secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, cast

from evolink_mcp.errors import redact

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_QUERY = re.compile(r"(https?://[^\s?#]+)[?#]\S*", re.IGNORECASE)

REQUEST: ContextVar[str] = ContextVar("request", default="")
"""Names the HTTP request that is being answered; empty where there is none."""

JOB: ContextVar[str] = ContextVar("job", default="")
"""Names the job that is being worked on; empty where there is none. A record's own `job` goes
before it."""

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class SecretFreeFormatter(logging.Formatter):
    """Keeps keys, signed parts of addresses and the words of exceptions out of the log.

    What an exception says may hold a prompt or an argument, so that only its type and
    the lines it passed through are shown.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text, redacted."""
        record.exc_text = None  # another handler may have left its own wording here
        return redact(_QUERY.sub(r"\1?[cut]", super().format(record)))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return what was logged as one line without control characters."""
        text = super().formatMessage(record)
        return "".join(char if char.isprintable() else " " for char in text)

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        """Return where an exception came from and its type, without what it says."""
        return _wordless(ei[1]) if ei[1] is not None else "no exception"


class JsonFormatter(SecretFreeFormatter):
    """Writes one JSON object a line, as free of secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON; `request` and `job` name what it is about, where known."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname, "logger": record.name}
        about = {"request": REQUEST.get(), "job": getattr(record, "job", "") or JOB.get()}
        line |= {name: value for name, value in about.items() if value}
        return json.dumps({**line, "message": super().format(record)}, ensure_ascii=False)


def _wordless(error: BaseException, seen: tuple[BaseException, ...] = ()) -> str:
    """Describe an exception, what caused it and what a group of them holds, by types and places."""
    name, seen = type(error).__name__, (*seen, error)
    cause = error.__cause__ or error.__context__
    before = f"{_wordless(cause, seen)}\nwhich led to\n" if cause and cause not in seen else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    parts = "".join(f"\nwhich holds\n{_wordless(part, seen)}" for part in _held(error))
    return f"{before}{frames}{name} (its text is not logged){parts}"


def _held(error: BaseException) -> tuple[BaseException, ...]:
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).exceptions
    return ()


def configure_logging(level: str, form: Literal["text", "json"] = "text") -> None:
    """Send our own records of `level` and up, and the warnings of libraries, to stderr.

    To be called before a server is built: the SDK would configure logging otherwise.
    Libraries stay at WARNING because some log whole messages below that.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter("%(message)s") if form == "json" else SecretFreeFormatter(_FORMAT)
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("evolink_mcp").setLevel(level)
