"""One image model's rules, as data.

A key that is missing says that no such limit is stated, a whole field that is missing that
the model takes no such field, unless `unknown` names it: then its rule is not established,
and any value of its plain type passes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

MEGABYTE = 1_000_000
"""Bytes; the smaller of the two megabytes that the docs may mean."""

UNKNOWN_CREDITS = 10.0
"""Credits to expect of a picture whose price nobody has told; rather too many than too few."""

Operation = Literal["generate", "edit", "layerize", "follow_up"]
"""What a model does: draw, change the references it needs, part a picture into layers, or go
on from an earlier result."""

Scalar = str | int | float | bool


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PromptRule(_Fact):
    """How long a prompt may be: characters, bytes of UTF-8, tokens (which EvoLink counts)."""

    max_chars: int | None = None
    max_bytes: int | None = None
    max_tokens: int | None = None


class CustomSize(_Fact):
    """Free sizes as `WIDTHxHEIGHT`, in pixels; areas are width times height."""

    step: int = 1
    edge_min: int = 1
    edge_max: int | None = None
    area_min: int | None = None
    area_max: int | None = None
    ratio_max: float | None = None
    """The longer edge over the shorter one."""
    only_alone: bool = False
    """Whether such a size goes with n = 1 only."""


class SizeRule(_Fact):
    """The accepted words for a size, and which free sizes are accepted beside them."""

    values: tuple[str, ...] = ()
    default: str | None = None
    custom: CustomSize | None = None


class ChoiceRule(_Fact):
    """The accepted words for `quality` or `resolution`."""

    values: tuple[str, ...]
    selects: Literal["resolution", "effort", "mode"]
    default: str | None = None
    ignores_case: bool = False


class CountRule(_Fact):
    """How many pictures one request may ask for."""

    minimum: int
    maximum: int
    values: tuple[int, ...] = ()
    """Where not every number between the two is accepted."""
    default: int | None = None
    reliable: bool = True
    """False where fewer pictures than asked for may come."""
    max_with_references: int | None = None
    """Reference images and pictures together."""

    @property
    def accepted(self) -> tuple[int, ...]:
        """Every accepted number."""
        return self.values or tuple(range(self.minimum, self.maximum + 1))


class ReferenceRule(_Fact):
    """How many reference images, of what types, how large; sides in pixels."""

    min_items: int = 0
    max_items: int | None = None
    max_megabytes: int | None = None
    formats: tuple[str, ...] = ()
    """File endings; none where they are not stated."""
    min_side: int | None = None
    max_side: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    ratio_max: float | None = None
    max_people: int | None = None

    @property
    def max_bytes(self) -> int | None:
        """The limit of one reference image, in bytes."""
        return self.max_megabytes * MEGABYTE if self.max_megabytes else None


class MaskRule(_Fact):
    """What a mask must be; it always has the size of its reference image."""

    format: str = "png"
    max_megabytes: int | None = None
    same_size: bool = True
    alpha: bool = False
    reference_format: str | None = None
    max_reference_images: int | None = None
    repaint: str = ""
    """Which of its pixels are drawn anew; this differs between families."""

    @property
    def max_bytes(self) -> int | None:
        """The limit of the mask's file, in bytes."""
        return self.max_megabytes * MEGABYTE if self.max_megabytes else None


class CallbackRule(_Fact):
    """What a callback address must be (EvoLink docs, `callback_url`, the same on every page)."""

    scheme: str = "https"
    max_chars: int = 2048


class ParamRule(_Fact):
    """A further field: its JSON type, its accepted values, its bounds.

    `maximum` is a number of characters where the type is `string`.
    """

    type: Literal["string", "integer", "boolean", "array", "object"] | None = None
    values: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    default: Scalar | None = None


class Condition(_Fact):
    """What a value of one field asks of another, or of the reference images."""

    field: str
    is_: str
    needs: str
    """The other field, or `image_urls`."""
    values: tuple[str, ...] = ()
    """What the other field must be; left out, it must be one of these too, or its default."""
    references: int | None = None
    reference_format: str | None = None


class ModelSpec(_Fact):
    """Everything a model accepts."""

    id: str
    title: str
    edition: str = ""
    listed: bool = True
    """Whether EvoLink's newest docs still list it."""
    beta: bool = False
    known: bool = True
    """False for an id that the table does not hold."""
    operation: Operation = "generate"
    required: tuple[str, ...] = ()
    """Fields; a dotted name is nested in `model_params`."""
    typical_credits: float | None = None
    prompt: PromptRule | None = None
    size: SizeRule | None = None
    quality: ChoiceRule | None = None
    resolution: ChoiceRule | None = None
    n: CountRule | None = None
    outputs: int | None = None
    """Pictures of one request where there is no `n`."""
    image_urls: ReferenceRule | None = None
    mask_url: MaskRule | None = None
    callback_url: CallbackRule = CallbackRule()
    params: Mapping[str, ParamRule] = {}
    """Further fields of the body."""
    model_params: Mapping[str, ParamRule] = {}
    """Fields inside the body's `model_params`."""
    unknown: frozenset[str] = frozenset()
    """Fields whose rule is not established."""
    conditions: tuple[Condition, ...] = ()

    @property
    def expected_credits(self) -> float:
        """What to expect of one picture, in credits, as long as no price was seen."""
        return UNKNOWN_CREDITS if self.typical_credits is None else self.typical_credits

    def takes(self, field: str) -> bool:
        """Tell whether the model has a field of that name, if only with an unknown rule."""
        return field in self.unknown or field in self.params or bool(getattr(self, field, None))


_WITHDRAWN = "withdrawn"
"""The table of models that are none any more."""

_HEADING = re.compile(r'\[\[?(?:"([^"]+)"|([\w-]+))(?:\..*)?\]')
"""A line that begins a table, with the first part of its name, which holds dots in quotes only."""


class _Models(Mapping[str, ModelSpec]):
    """The catalogue, each model read when it is asked for: to start, one is enough."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._specs: dict[str, ModelSpec] = {}

    def __getitem__(self, name: str) -> ModelSpec:
        if name not in self._specs:
            facts = tomllib.loads(self._texts[name])[name]
            self._specs[name] = ModelSpec.model_validate({"id": name, **facts})
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


_SUCCESSORS = TypeAdapter(dict[str, str])


@cache
def load_models() -> Mapping[str, ModelSpec]:
    """Read the catalogue that is part of the package, by model id."""
    texts = _read_tables()
    return _Models({name: text for name, text in texts.items() if name != _WITHDRAWN})


@cache
def load_successors() -> Mapping[str, str]:
    """Read which model took the place of one that EvoLink has withdrawn."""
    return _SUCCESSORS.validate_python(tomllib.loads(_read_tables()[_WITHDRAWN])[_WITHDRAWN])


@cache
def _read_tables() -> Mapping[str, str]:
    """Cut the file into its tables, each with those below it; parsing all of it takes a while."""
    text = files("evolink_mcp.catalog").joinpath("image_models.toml").read_text("utf-8")
    tables: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            lines = tables.setdefault(heading[1] or heading[2], [])
        lines.append(line)
    return {name: "\n".join(lines) for name, lines in tables.items()}


def unknown_model(name: str) -> ModelSpec:
    """Return the loosest rules, for a model that the table does not hold."""
    models = load_models().values()
    params = {
        field: ParamRule(type=rule.type) for each in models for field, rule in each.params.items()
    }
    fields = ("prompt", "size", "quality", "resolution", "n", "image_urls", "mask_url")
    return ModelSpec(
        id=name,
        title=name,
        known=False,
        listed=False,
        unknown=frozenset((*fields, "model_params", "outputs")),
        params=params,
    )
