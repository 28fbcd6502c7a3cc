"""`list_models`: what is enabled, what it takes and costs, and whether the key may use it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Literal

from mcp.types import CallToolResult, Completion, TextContent
from pydantic import BaseModel, ConfigDict, Field

from evolink_mcp.catalog.models import Catalogue
from evolink_mcp.catalog.spec import ModelSpec
from evolink_mcp.catalog.summary import summary
from evolink_mcp.errors import EvolinkError, KeyMissing
from evolink_mcp.server.app import App
from evolink_mcp.server.waits import LAST_WORD

logger = logging.getLogger(__name__)

Usable = Literal["yes", "no", "unknown"]
PriceFrom = Literal["last purchase", "docs"]

_MOST_COMPLETIONS = 100
"""Values of one answer (MCP specification, "Completion")."""


class ModelEntry(BaseModel):
    """One enabled model."""

    model_config = ConfigDict(frozen=True)

    id: str
    title: str
    takes: str = Field(description="Its limits, in one line.")
    is_default: bool = Field(description="Whether a call that names no model gets it.")
    listed: bool = Field(description="Whether EvoLink's newest docs list it.")
    credits: float | None = Field(
        default=None, description="Credits of one picture (of one request where it makes several)."
    )
    price_from: PriceFrom | None = Field(
        default=None, description="Where that price is from; no price is known without it."
    )
    usable: Usable = Field(description="Whether this key may use it, where EvoLink tells.")


class ModelList(BaseModel):
    """What `list_models` answers."""

    model_config = ConfigDict(frozen=True)

    models: list[ModelEntry] = Field(description="Enabled models, in the operator's order.")


async def read_models(app: App) -> CallToolResult:
    """List the models; what EvoLink or the journal cannot tell is left open."""
    catalogue = app.catalogue
    prices, usable = await _last_prices(app), await _usable(app)
    entries = [
        _entry(spec, catalogue, last=prices.get(spec.id), usable=usable)
        for spec in catalogue.models.values()
    ]
    answer = ModelList(models=entries)
    return CallToolResult(
        content=[TextContent(type="text", text="\n".join(map(_line, entries)))],
        structured_content=answer.model_dump(exclude_none=True),
    )


def complete_argument(
    catalogue: Catalogue, name: str, *, begun: str, model: str | None = None
) -> Completion | None:
    """Complete a model, or a size of a `model`, that a user has begun to type; None for others."""
    if name == "model":
        values = list(catalogue.models)
    elif name == "size":
        chosen = catalogue.models.get(model or "")
        specs = [chosen] if chosen else catalogue.models.values()
        rules = [spec.size for spec in specs if spec.size]
        values = list(dict.fromkeys(word for rule in rules for word in rule.values))
    else:
        return None
    found = [value for value in values if value.lower().startswith(begun.lower())]
    shown = found[:_MOST_COMPLETIONS]
    return Completion(values=shown, total=len(found), has_more=len(found) > len(shown))


async def _last_prices(app: App) -> Mapping[str, float]:
    try:
        return await (await app.journal()).last_prices(tuple(app.catalogue.models))
    except EvolinkError as error:
        logger.warning("no prices: %s", error)
        return {}


async def _usable(app: App) -> frozenset[str] | None:
    try:
        app.require_key()
        connected = await app.connected()
        with app.waits.within(math.inf, grace=LAST_WORD):
            return await connected.api.models()
    except EvolinkError as error:
        if not isinstance(error, KeyMissing):
            logger.warning("EvoLink does not tell which models the key may use: %s", error)
    return None


def _entry(
    spec: ModelSpec, catalogue: Catalogue, *, last: float | None, usable: frozenset[str] | None
) -> ModelEntry:
    price = spec.typical_credits if last is None else last
    known: PriceFrom = "docs" if last is None else "last purchase"
    return ModelEntry(
        id=spec.id,
        title=spec.title,
        takes=summary(spec),
        is_default=spec.id == catalogue.default,
        listed=spec.listed,
        credits=price,
        price_from=None if price is None else known,
        usable="unknown" if usable is None else "yes" if spec.id in usable else "no",
    )


def _line(entry: ModelEntry) -> str:
    facts = [
        "default" if entry.is_default else "",
        f"{entry.credits:g} credits ({entry.price_from})"
        if entry.credits is not None
        else "price unknown",
        "" if entry.listed else "not in EvoLink's newest docs",
        {"no": "this key may NOT use it", "yes": "", "unknown": ""}[entry.usable],
    ]
    return f"{entry.id} ({', '.join(filter(None, facts))}): {entry.takes}."
