"""What a person has typed, as a server and its tool are to be given it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final, TypedDict, Unpack, cast

import click

from evolink_mcp.catalog.models import ALL
from evolink_mcp.catalog.spec import load_models, load_successors
from evolink_mcp.settings import Settings

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
"""How an address begins; a drive has one letter."""

_NEAR: Final = 0.8
"""How alike an unknown model and a known one are, of 1, where a slip of the hand is likely."""


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
        """Return settings for a server that makes just this picture, and saves to a folder.

        Raises:
            click.BadParameter: The model is a list of them, or a likely slip of the hand.
        """
        opened = dict.fromkeys((*settings.input_dirs, *(each.parent for each in self.files)))
        update: dict[str, object] = {"output_dir": folder.expanduser().absolute()}
        if self.files:
            update["input_dirs"] = tuple(opened)
        if "model" in self.arguments:
            model = _checked_model(str(self.arguments["model"]), settings)
            update |= {"models": (model,), "default_model": None}
        return settings.model_copy(update=update)


def read_wanted(prompt: str, **fields: Unpack[Fields]) -> Wanted:
    """Read the options; a path may be relative, unlike those of an assistant.

    Raises:
        click.BadParameter: A file is not there, or a further field is no `NAME=VALUE`.
    """
    references = [_located(each, hint="--reference") for each in fields.get("image_urls", ())]
    named = fields.get("mask_url")
    mask = _located(named, hint="--mask") if named else ""
    given: dict[str, object] = {
        "prompt": prompt,
        "model": fields.get("model"),
        "size": fields.get("size"),
        "n": fields.get("n"),
        "image_urls": [str(each) for each in references],
        "mask_url": str(mask),
        **_further(fields.get("others", ())),
    }
    files = tuple(each for each in (*references, mask) if isinstance(each, Path))
    return Wanted({name: value for name, value in given.items() if value}, files)


def _located(given: str, *, hint: str) -> str | Path:
    """Return the real place of a file; an address is for the server to judge."""
    if "://" in given:
        return given
    path, reason = Path(given), "no such file"
    try:
        path = path.expanduser().absolute()
        if path.is_file():
            return path.resolve()
    except RuntimeError:
        reason = "no such user"
    except OSError as error:
        reason = f"{error.strerror}"
    if _ADDRESS.match(given):
        return given
    raise click.BadParameter(f"{reason}: {path}", param_hint=hint)


def _checked_model(model: str, settings: Settings) -> str:
    """Take what the operator has named or the table holds; of others, what is no likely slip."""
    if model.strip().lower() == ALL:
        message = f"{model!r} stands for a list of models; name one"
        raise click.BadParameter(message, param_hint="--model")
    if model in settings.models or model in load_models():
        return model
    near = load_successors().get(model) or _nearest(model)
    if near:
        message = f"did you mean {near}? To buy from {model} all the same: EVOLINK_MODELS={model}"
        raise click.BadParameter(message, param_hint="--model")
    return model


def _nearest(model: str) -> str | None:
    near = get_close_matches(model.lower(), load_models(), n=1, cutoff=_NEAR)
    return near[0] if near else None


def _further(others: Iterable[str]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for each in others:
        name, equals, value = each.partition("=")
        if not name or not equals:
            message = f"{each!r} is no NAME=VALUE"
            raise click.BadParameter(message, param_hint="--set")
        outer, dot, inner = name.partition(".")
        if isinstance(fields.get(outer), str if dot else dict):
            message = f"{outer} is given as a whole and in parts"
            raise click.BadParameter(message, param_hint="--set")
        if dot:
            nested = cast("dict[str, object]", fields.setdefault(outer, {}))
            nested[inner] = value
        else:
            fields[name] = value
    return fields
