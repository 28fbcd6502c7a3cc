"""What a person has typed, as a server and its tool are to be given it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack, cast

import click

from evolink_mcp.settings import Settings


class Fields(TypedDict, total=False):
    """Options that go to the tool as they are, but for `others`: each a `NAME=VALUE`."""

    model: str | None
    size: str | None
    n: str | None
    image_urls: tuple[str, ...]
    mask_url: str | None
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A picture that a person wants, under the tool's own names; the server checks it."""

    arguments: dict[str, object]
    files: tuple[Path, ...]
    """Files that were named: naming one here opens its folder, for this one request."""

    def opened(self, settings: Settings, folder: Path) -> Settings:
        """Return settings for a server that makes just this picture, and saves to a folder."""
        opened = dict.fromkeys((*settings.input_dirs, *(each.parent for each in self.files)))
        update: dict[str, object] = {"output_dir": folder.expanduser().absolute()}
        if self.files:
            update["input_dirs"] = tuple(opened)
        if "model" in self.arguments:
            update |= {"models": (self.arguments["model"],), "default_model": None}
        return settings.model_copy(update=update)


def read_wanted(prompt: str, **fields: Unpack[Fields]) -> Wanted:
    """Read the options; a path may be relative, unlike those of an assistant.

    Raises:
        click.BadParameter: A further field is no `NAME=VALUE`.
    """
    references = [_located(each) for each in fields.get("image_urls", ())]
    mask = fields.get("mask_url")
    given: dict[str, object] = {
        "prompt": prompt,
        "model": fields.get("model"),
        "size": fields.get("size"),
        "n": fields.get("n"),
        "image_urls": [str(each) for each in references],
        "mask_url": str(_located(mask)) if mask else None,
        **_further(fields.get("others", ())),
    }
    inputs = [*references, *([_located(mask)] if mask else [])]
    files = tuple(each for each in inputs if isinstance(each, Path))
    return Wanted({name: value for name, value in given.items() if value}, files)


def _located(given: str) -> str | Path:
    """Return the real place of a file that is there; anything else is for the server to judge."""
    path = Path(given).expanduser()
    return path.resolve() if "://" not in given and path.is_file() else given


def _further(others: Iterable[str]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for each in others:
        name, equals, value = each.partition("=")
        if not name or not equals:
            message = f"{each!r} is no NAME=VALUE"
            raise click.BadParameter(message, param_hint="--set")
        outer, dot, inner = name.partition(".")
        if dot:
            nested = cast("dict[str, object]", fields.setdefault(outer, {}))
            nested[inner] = value
        else:
            fields[name] = value
    return fields
