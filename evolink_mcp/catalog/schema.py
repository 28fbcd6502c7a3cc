"""The portable JSON Schema of a request: exact for one model, the tightest common one for several.

Flat, and made of keywords alone that every known host and model provider takes. `n` is
bounded, not enumerated: hosts that speak to Gemini models reject a whole tool list that
enumerates numbers, so "1, 2 or 4" is said in words and checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from evolink_mcp.catalog.checks import MOST_PICTURES, count_allowed
from evolink_mcp.catalog.inputs import MAX_URL_CHARS
from evolink_mcp.catalog.models import Catalogue
from evolink_mcp.catalog.params import MAX_TEXT_CHARS
from evolink_mcp.catalog.sizes import MAX_WORD_CHARS, size_allowed
from evolink_mcp.catalog.spec import MaskRule, ModelSpec, ParamRule, ReferenceRule
from evolink_mcp.catalog.wording import either

Schema = dict[str, Any]

_LARGEST_SIZE: Final = 11
"""Characters of the longest size in pixels, 12345x12345."""

INPUTS: Final = (
    "public http(s) addresses, evolink:// handles of earlier pictures, or absolute paths of files "
    "in opened folders"
)

_COMMON: Final[Mapping[str, str]] = {
    "prompt": "What to draw, or how to change the reference images.",
    "size": "Ratio such as 16:9, or WIDTHxHEIGHT in pixels where the model takes them.",
    "quality": "A tier of pixels, or the effort, by model.",
    "resolution": "A tier of pixels.",
    "n": "How many pictures. Each one costs.",
    "image_urls": f"Reference images to edit or combine: {INPUTS}.",
    "mask_url": "Mask for an edit, a PNG of the reference image's size; which of its pixels are "
    "drawn anew differs by model.",
    "model_params": "Fields of some models alone.",
}
"""What is said of a field where several models are enabled; list_models has the rest."""


def request_schema(catalogue: Catalogue) -> Schema:
    """Compile the rules of the enabled models to one schema."""
    schemas = [_model_schema(spec) for spec in catalogue.models.values()]
    merged = schemas[0] if len(schemas) == 1 else _merged(schemas)
    model = {
        "type": "string",
        "description": _model_description(catalogue),
        "enum": list(catalogue.models),
        "default": catalogue.default,
    }
    properties = {"model": model, **merged["properties"]}
    schema = {"type": "object", "properties": properties}
    return {**schema, "required": merged["required"]} if merged["required"] else schema


def _model_description(catalogue: Catalogue) -> str:
    """Say which of the models are in no table, so that nothing here is checked for them."""
    several = len(catalogue.models) > 1
    said = (
        "The image model; list_models tells what each one takes." if several else "The image model."
    )
    unknown = [spec.id for spec in catalogue.models.values() if not spec.known]
    if not unknown:
        return said
    return f"{said} Not in the table of models, so that EvoLink decides: {', '.join(unknown)}."


def _model_schema(spec: ModelSpec) -> Schema:
    required = list(dict.fromkeys(name.partition(".")[0] for name in spec.required))
    written = ((name, write(spec)) for name, write in _WRITERS.items() if spec.takes(name))
    properties = dict(written)
    properties |= {name: _param(rule) for name, rule in spec.params.items()}
    properties["callback_url"] = _callback(spec)
    return {"type": "object", "properties": properties, "required": required}


def _prompt(spec: ModelSpec) -> Schema:
    rule = spec.prompt
    tokens = (
        f" At most {rule.max_tokens} tokens."
        if rule and rule.max_tokens and not rule.max_chars
        else ""
    )
    return _without_none(
        type="string",
        description=_COMMON["prompt"] + tokens,
        minLength=1,
        maxLength=rule.max_chars if rule else None,
    )


def _size(spec: ModelSpec) -> Schema:
    rule = spec.size
    if rule is None:
        return {"type": "string", "description": "Ratio or pixels.", "maxLength": MAX_WORD_CHARS}
    if rule.custom is None:
        return _without_none(
            type="string",
            description="Ratio or pixels (width x height)."
            if any("x" in word for word in rule.values)
            else "Ratio of width to height.",
            enum=list(rule.values),
            default=rule.default,
        )
    longest = max((len(word) for word in rule.values), default=0)
    return _without_none(
        type="string",
        description=f"One of: {size_allowed(rule)}.",
        maxLength=max(longest, _LARGEST_SIZE),
        default=rule.default,
    )


def _choice(name: str) -> Callable[[ModelSpec], Schema]:
    says = {"resolution": "Tier of pixels.", "effort": "Effort.", "mode": "Mode."}

    def write(spec: ModelSpec) -> Schema:
        rule = spec.quality if name == "quality" else spec.resolution
        if rule is None:
            return {"type": "string", "description": _COMMON[name], "maxLength": MAX_WORD_CHARS}
        return _without_none(
            type="string",
            description=says[rule.selects],
            enum=list(rule.values),
            default=rule.default,
        )

    return write


def _count(spec: ModelSpec) -> Schema:
    rule = spec.n
    if rule is None:
        return {
            "type": "integer",
            "description": _COMMON["n"],
            "minimum": 1,
            "maximum": MOST_PICTURES,
        }
    fewer = "" if rule.reliable else " Fewer may come."
    together = rule.max_with_references
    sum_ = f" With the reference images at most {together}." if together else ""
    return _without_none(
        type="integer",
        description=f"How many pictures: {count_allowed(spec)}. Each one costs.{fewer}{sum_}",
        minimum=rule.minimum,
        maximum=rule.maximum,
        default=rule.default,
    )


def _references(spec: ModelSpec) -> Schema:
    rule = spec.image_urls or ReferenceRule()
    return _without_none(
        type="array",
        description=references_description(rule),
        items=_address(),
        minItems=rule.min_items or None,
        maxItems=rule.max_items,
    )


def references_description(rule: ReferenceRule) -> str:
    """Say what reference images are for and what they must be."""
    said = [f"at most {rule.max_items}"] if rule.max_items else []
    said += [either(rule.formats)] if rule.formats else []
    said += [f"{rule.max_megabytes} MB each"] if rule.max_megabytes else []
    limits = f" ({'; '.join(said)})" if said else ""
    return f"Reference images to edit or combine{limits}: {INPUTS}."


def _mask(spec: ModelSpec) -> Schema:
    return {**_address(), "description": mask_description(spec.mask_url)}


def mask_description(rule: MaskRule | None) -> str:
    """Say what a mask is for and what it must be."""
    if rule is None:
        return "Mask for an edit."
    size = f", at most {rule.max_megabytes} MB" if rule.max_megabytes else ""
    alpha = " with transparency" if rule.alpha else ""
    one = "exactly 1 reference image" if rule.max_reference_images == 1 else "a reference image"
    form = f", a {rule.reference_format.upper()}" if rule.reference_format else ""
    return (
        f"Mask for an edit: a {rule.format.upper()}{alpha}{size}; {rule.repaint} is drawn anew, "
        f"the rest is kept. Needs {one}{form} of the same size."
    )


def _address() -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": MAX_URL_CHARS}


def _callback(spec: ModelSpec) -> Schema:
    rule = spec.callback_url
    return {
        "type": "string",
        "description": f"Public {rule.scheme} address that EvoLink tells when the task "
        "ends. Rarely needed: this tool waits by itself.",
        "minLength": 1,
        "maxLength": rule.max_chars,
    }


def _model_params(spec: ModelSpec) -> Schema:
    if not spec.model_params:
        return _AS_TEXT
    nested = [name.partition(".")[2] for name in spec.required if "." in name]
    schema: Schema = {
        "type": "object",
        "description": "Further fields.",
        "properties": {name: _param(rule) for name, rule in spec.model_params.items()},
    }
    return {**schema, "required": nested} if nested else schema


def _param(rule: ParamRule) -> Schema:
    """Write a further field; one whose type is not stated is a switch by its name (inferred)."""
    kind = rule.type or "boolean"
    if kind in {"array", "object"}:
        return _AS_TEXT
    bounds: Schema = {}
    if kind == "string" and not rule.values:
        bounds = {"maxLength": rule.maximum or MAX_TEXT_CHARS}
    if kind == "integer":
        bounds = {"minimum": rule.minimum, "maximum": rule.maximum}
    return _without_none(
        type=kind,
        enum=list(rule.values) or None,
        default=rule.default,
        **bounds,
    )


_AS_TEXT: Final[Schema] = {
    "type": "string",
    "description": "A JSON object or list, written as text.",
    "maxLength": MAX_TEXT_CHARS,
}
"""Some providers reject objects without named properties; a text is read as what it holds."""

_WRITERS: Final[Mapping[str, Callable[[ModelSpec], Schema]]] = {
    "prompt": _prompt,
    "size": _size,
    "quality": _choice("quality"),
    "resolution": _choice("resolution"),
    "n": _count,
    "image_urls": _references,
    "mask_url": _mask,
    "model_params": _model_params,
}


def _merged(schemas: Sequence[Schema]) -> Schema:
    """Return the tightest schema of an object that admits whatever one of them admits."""
    names = dict.fromkeys(name for schema in schemas for name in schema.get("properties", {}))
    properties: Schema = {}
    for name in names:
        alike = [each["properties"][name] for each in schemas if name in each.get("properties", {})]
        properties[name] = _merged_field(name, alike)
    required = [
        name for name in names if all(name in schema.get("required", ()) for schema in schemas)
    ]
    return {"type": "object", "properties": properties, "required": required}


def _merged_field(name: str, schemas: Sequence[Schema]) -> Schema:
    objects = [schema for schema in schemas if schema["type"] == "object"]
    schemas = objects or schemas
    first = schemas[0]
    if all(schema == first for schema in schemas):
        return first
    if first["type"] == "object" and "properties" in first:
        merged = _merged(schemas)
        required = {"required": merged["required"]} if merged["required"] else {}
        description = _COMMON.get(name, "Further fields.")
        return {
            "type": "object",
            "description": description,
            "properties": merged["properties"],
            **required,
        }
    said = _COMMON.get(name, first.get("description"))
    return _without_none(
        type=first["type"],
        description=said,
        enum=_union(schemas),
        items=first.get("items"),
        minimum=_loosest(schemas, "minimum", choose=min),
        maximum=_loosest(schemas, "maximum", choose=max),
        minLength=_loosest(schemas, "minLength", choose=min),
        maxLength=_longest(schemas),
        minItems=_loosest(schemas, "minItems", choose=min),
        maxItems=_loosest(schemas, "maxItems", choose=max),
        default=_common(schemas, "default"),
    )


def _union(schemas: Sequence[Schema]) -> list[str] | None:
    """Return every accepted word, where all of them enumerate theirs."""
    if not all("enum" in schema for schema in schemas):
        return None
    return list(dict.fromkeys(word for schema in schemas for word in schema["enum"]))


def _loosest(schemas: Sequence[Schema], key: str, *, choose: Callable[..., int]) -> int | None:
    """Return the loosest bound, where all of them have one."""
    bounds = [schema[key] for schema in schemas if key in schema]
    return choose(bounds) if len(bounds) == len(schemas) else None


def _longest(schemas: Sequence[Schema]) -> int | None:
    """Return the longest text that one of them admits; words that are enumerated have a length."""
    if all("enum" in schema for schema in schemas):
        return None
    lengths = [
        schema.get("maxLength") or max(map(len, schema.get("enum", ())), default=0)
        for schema in schemas
    ]
    return max(lengths) if all(lengths) else None


def _common(schemas: Sequence[Schema], key: str) -> object:
    values = [schema.get(key) for schema in schemas]
    return values[0] if all(value == values[0] for value in values) else None


def _without_none(**fields: object) -> Schema:
    return cast("Schema", {name: value for name, value in fields.items() if value is not None})
