"""JSON Schema that every known host can take."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from pydantic import BaseModel

Schema = dict[str, Any]

PORTABLE = frozenset(
    {
        "type",
        "properties",
        "description",
        "enum",
        "default",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "items",
        "minItems",
        "maxItems",
        "required",
    }
)
"""Keywords that no known host or model provider rejects."""


@cache
def portable_schema(model: type[BaseModel]) -> Schema:
    """Return a model's schema without references, titles, formats and nullable types.

    A field that may be None is one that may be absent: answers leave such fields out. Made once
    for a model, since it takes a while: not to be changed.
    """
    schema = model.model_json_schema()
    definitions = cast("dict[str, Schema]", schema.get("$defs", {}))
    return _portable(schema, definitions)


def _portable(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    schema = _resolved(schema, definitions)
    kept = {name: value for name, value in schema.items() if name in PORTABLE and value is not None}
    if "properties" in kept:
        fields = cast("dict[str, Schema]", kept["properties"])
        kept["properties"] = {name: _portable(part, definitions) for name, part in fields.items()}
    if "items" in kept:
        kept["items"] = _portable(cast("Schema", kept["items"]), definitions)
    return kept


def _resolved(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Put the one type that is not null, or what a reference points to, in its place."""
    arms = [arm for arm in schema.get("anyOf", ()) if arm != {"type": "null"}]
    if len(arms) == 1:
        schema = {**arms[0], **schema}
    if "$ref" in schema:
        schema = {**definitions[str(schema["$ref"]).rpartition("/")[2]], **schema}
    return schema
