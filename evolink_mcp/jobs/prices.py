"""What a purchase costs, learned from the purchases that the journal holds.

EvoLink publishes no price of most models, and prices change. What a picture costs is
decided by the model and a few fields of the request, not by how many are bought at once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.jobs.job import Job
from evolink_mcp.jobs.rows import job_in

Source = Literal["same terms", "same model", "catalogue"]
"""Where a price comes from: an equal purchase, any of the model's, or nobody knows better."""

_DECIDING: Final = ("quality", "resolution", "size")
"""Fields of a body that decide what a picture costs, beside `model_params.speed`."""

_RECENT: Final = 20
"""Purchases that are looked through for a price."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a purchase is expected to cost, in credits."""

    credits: float
    """For all of its pictures."""
    a_picture: float
    source: Source


def terms_of(request: ImageRequest | None) -> str:
    """Name what decides the price of a request, its model aside; empty where nobody knows.

    Jobs that were recorded before terms were have empty ones too.
    """
    if request is None:
        return ""
    body = request.body()
    terms: dict[str, object] = {name: body[name] for name in _DECIDING if name in body}
    params = cast("Mapping[str, object]", body.get("model_params", {}))
    if "speed" in params:
        terms["speed"] = params["speed"]
    return json.dumps(terms, sort_keys=True, separators=(",", ":"))


def price_of(
    connection: sqlite3.Connection, request: ImageRequest, *, origin: str, expected: float
) -> Price:
    """Return what a request is expected to cost, within a transaction.

    What the last equal purchase cost; else the highest of the model's last prices, since
    who is asked to spend should not learn afterwards that it was more; else `expected`,
    in credits a picture.
    """
    asked = request.n or 1
    same_terms = _last(connection, request.model, origin=origin, terms=terms_of(request))
    if price := next(same_terms, None):
        return Price(asked * price, price, "same terms")
    if price := max(_last(connection, request.model, origin=origin), default=None):
        return Price(asked * price, price, "same model")
    return Price(asked * expected, expected, "catalogue")


def last_price(connection: sqlite3.Connection, model: str, *, origin: str) -> float | None:
    """Return what a picture of a model cost last, in credits; None where none was bought."""
    return next(_last(connection, model, origin=origin), None)


def _last(
    connection: sqlite3.Connection, model: str, *, origin: str, terms: str | None = None
) -> Iterator[float]:
    """Yield what a picture cost in the last purchases, the newest first."""
    chosen = " AND terms=?" if terms is not None else ""
    rows = connection.execute(
        f"SELECT * FROM jobs WHERE origin=? AND model=?{chosen} AND task_id IS NOT NULL"  # noqa: S608 - our own words
        " AND booked>0 ORDER BY created DESC LIMIT ?",
        (origin, model, *((terms,) if terms is not None else ()), _RECENT),
    )
    return filter(None, (_a_picture(job_in(row, ())) for row in rows.fetchall()))


def _a_picture(job: Job) -> float | None:
    """Return what a picture of a job cost: what was charged, else what was reserved."""
    task, asked = job.task, job.asked
    if task is None or not asked:
        return None
    if task.status == "completed" and task.credits_used is not None:
        return task.credits_used / (min(len(task.links), asked) or asked)
    return task.credits_reserved / asked if task.credits_reserved is not None else None
