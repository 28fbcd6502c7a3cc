"""Write `docs/reference.md` from the code: `python -m docs.generate [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from pydantic import SecretStr

from evolink_mcp.catalog.models import Catalogue, open_catalogue
from evolink_mcp.catalog.spec import ChoiceRule, ModelSpec, load_models
from evolink_mcp.catalog.summary import (
    count_summary,
    mask_summary,
    prompt_summary,
    references_summary,
    size_summary,
)
from evolink_mcp.server.hosts import load_hosts
from evolink_mcp.server.tools import make_tools
from evolink_mcp.settings import Settings

PAGE = Path(__file__).with_name("reference.md")

HEAD = """\
# Reference

Written from the code by `make docs`; `make check` fails where it is out of date.
"""


MODELS = """\
## Models

What `EVOLINK_MODELS` may name; `all` stands for every one. Facts are from EvoLink's docs, see
`evolink_mcp/catalog/image_models.toml` for the edition of each. A star marks models that the newest
docs do not list. Credits are those of one picture (of one request where it makes several) in the
docs' examples; without a figure no price is known, and the first purchase tells it.
"""


def main(words: Sequence[str]) -> int:
    """Write the page, or tell whether it is up to date."""
    page = "\n".join((HEAD, *_sections(load_models())))
    if "--check" not in words:
        PAGE.write_text(page, "utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text("utf-8") == page:
        return 0
    print(f"{PAGE.name} is out of date: run make docs", file=sys.stderr)
    return 1


def _sections(models: Mapping[str, ModelSpec]) -> Iterator[str]:
    yield "## Tools\n"
    yield from _tools(open_catalogue(("gpt-4o-image",)))
    yield "## Settings\n\nEnvironment variables of the server.\n"
    yield _table(("variable", "default", "what it is"), _settings())
    yield MODELS
    yield _table(
        (
            *("model", "prompt", "sizes", "tiers", "n", "reference images", "mask"),
            *("further fields", "not established", "credits"),
        ),
        (_model(spec) for spec in models.values()),
    )
    yield (
        "## Hosts\n\nHow long a call waits, by the beginning of the host's `clientInfo.name`; "
        "figures are users' reports.\n"
    )
    yield _table(("host", "cuts a call off after", "progress extends that"), _hosts())


def _tools(catalogue: Catalogue) -> Iterator[str]:
    everywhere = {tool.name for tool in make_tools(catalogue)}
    others = (tool for tool in make_tools(catalogue, over_http=True) if tool.name not in everywhere)
    for tool in (*make_tools(catalogue), *others):
        hints = tool.annotations
        spends = "reads only" if hints and hints.read_only_hint else "spends credits"
        spends += "" if tool.name in everywhere else ", over HTTP"
        yield f"### `{tool.name}`: {tool.title} ({spends})\n\n{tool.description}\n"
        yield _table(("argument", "type", "rule", "what it is"), _arguments(tool.parameters))


def _arguments(schema: dict[str, object]) -> Iterator[tuple[str, ...]]:
    required = cast("list[str]", schema.get("required", []))
    properties = cast("dict[str, dict[str, object]]", schema["properties"])
    for name, rule in properties.items():
        limits = ["required"] if name in required else []
        limits += [
            f"{word} {_plain(rule[word])}"
            for word in ("enum", "minimum", "maximum", "maxLength", "maxItems", "default")
            if word in rule
        ]
        yield f"`{name}`", str(rule["type"]), "; ".join(limits), str(rule.get("description", ""))


def _settings() -> Iterator[tuple[str, ...]]:
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{_plain(field.default)}`"
        yield f"`EVOLINK_{name.upper()}`", default, str(field.description)


def _model(spec: ModelSpec) -> tuple[str, ...]:
    tiers = [f"{name}: {_plain(rule.values)}" for name, rule in _choices(spec) if rule]
    params = [*spec.params, *(f"model_params.{name}" for name in spec.model_params)]
    price = "" if spec.typical_credits is None else f"{spec.typical_credits:g}"
    return (
        f"`{spec.id}`{'' if spec.listed else ' *'}",
        prompt_summary(spec).removeprefix("prompt").strip() or "yes",
        size_summary(spec).removeprefix("size ") if spec.size else "",
        "; ".join(tiers),
        count_summary(spec).removeprefix("n "),
        references_summary(spec).removeprefix("reference images "),
        mask_summary(spec).removeprefix("mask "),
        _plain(params),
        _plain(sorted(spec.unknown)),
        price,
    )


def _choices(spec: ModelSpec) -> tuple[tuple[str, ChoiceRule | None], ...]:
    return ("quality", spec.quality), ("resolution", spec.resolution)


def _hosts() -> Iterator[tuple[str, ...]]:
    for name, host in load_hosts().items():
        yield f"`{name}`", f"{host.call_seconds:,.0f} s", "yes" if host.progress_extends else "no"


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, cast("Sequence[object]", value)))
    assert not isinstance(value, SecretStr), "a secret has no default"  # noqa: S101
    return str(int(value)) if isinstance(value, bool) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
