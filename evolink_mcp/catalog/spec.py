"""One image model's rules, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, TypeAdapter

from evolink_mcp.errors import InvalidRequest, Problem

MEGABYTE = 1_000_000
"""Bytes; the smaller of the two megabytes that the docs may mean."""


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PromptRule(_Fact):
    """How long a prompt may be, in characters."""

    max_chars: int


class SizeRule(_Fact):
    """The accepted words for a size, and the pixels a ratio stands for."""

    values: tuple[str, ...]
    pixels: Mapping[str, str]

    def pixel_size(self, size: str | None) -> tuple[int, int]:
        """Return width and height in pixels; the first value where the caller left it open."""
        word = size or self.values[0]
        width, height = self.pixels.get(word, word).split("x")
        return int(width), int(height)


class CountRule(_Fact):
    """How many pictures one request may ask for."""

    values: tuple[int, ...]


class ReferenceRule(_Fact):
    """How many reference images, of what file types, how large each in megabytes."""

    max_items: int
    max_megabytes: int
    formats: tuple[str, ...]

    @property
    def max_bytes(self) -> int:
        """The limit of one reference image, in bytes."""
        return self.max_megabytes * MEGABYTE


class MaskRule(_Fact):
    """What a mask must be; it always has the size of its reference image."""

    format: str
    max_megabytes: int
    reference_images: int
    reference_format: str
    repaint: str

    @property
    def max_bytes(self) -> int:
        """The limit of the mask's file, in bytes."""
        return self.max_megabytes * MEGABYTE


class CallbackRule(_Fact):
    """What a callback address must be."""

    scheme: str
    max_chars: int


class ModelSpec(_Fact):
    """Everything a model accepts."""

    id: str
    title: str
    typical_credits: float
    prompt: PromptRule
    size: SizeRule
    n: CountRule
    image_urls: ReferenceRule
    mask_url: MaskRule
    callback_url: CallbackRule


_TABLE = TypeAdapter(dict[str, dict[str, object]])


def load_models() -> dict[str, ModelSpec]:
    """Read the catalogue that is part of the package, by model id."""
    text = files("evolink_mcp.catalog").joinpath("image_models.toml").read_text("utf-8")
    table = _TABLE.validate_python(tomllib.loads(text))
    return {name: ModelSpec.model_validate({"id": name, **facts}) for name, facts in table.items()}


def find_model(models: Mapping[str, ModelSpec], name: str) -> ModelSpec:
    """Return the model of that id.

    Raises:
        InvalidRequest: No such model; the error names those there are.
    """
    if name in models:
        return models[name]
    problem = Problem("model", f"{name!r} is not an enabled model", ", ".join(models))
    raise InvalidRequest(problems=(problem,))
