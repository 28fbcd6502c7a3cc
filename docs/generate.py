"""Write `docs/reference.md` from the code: `python -m docs.generate [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

from pydantic import SecretStr

from evolink_mcp.catalog.spec import ModelSpec, load_models
from evolink_mcp.server.hosts import load_hosts
from evolink_mcp.server.tools import make_tools
from evolink_mcp.settings import Settings

PAGE = Path(__file__).with_name("reference.md")

HEAD = """\
# Reference

Written from the code by `make docs`; `make check` fails where it is out of date.
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


def _sections(models: dict[str, ModelSpec]) -> Iterator[str]:
    yield "## Tools\n"
    yield from _tools(next(iter(models.values())))
    yield "## Settings\n\nEnvironment variables of the server.\n"
    yield _table(("variable", "default", "what it is"), _settings())
    yield "## Models\n"
    yield _table(
        ("model", "prompt", "sizes", "n", "reference images", "mask"),
        (_model(spec) for spec in models.values()),
    )
    yield (
        "## Hosts\n\nHow long a call waits, by the beginning of the host's `clientInfo.name`; "
        "figures are users' reports.\n"
    )
    yield _table(("host", "cuts a call off after", "progress extends that"), _hosts())


def _tools(spec: ModelSpec) -> Iterator[str]:
    for tool in make_tools(spec):
        hints = tool.annotations
        spends = "reads only" if hints and hints.read_only_hint else "spends credits"
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
        yield f"`{name}`", str(rule["type"]), "; ".join(limits), str(rule["description"])


def _settings() -> Iterator[tuple[str, ...]]:
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{_plain(field.default)}`"
        yield f"`EVOLINK_{name.upper()}`", default, str(field.description)


def _model(spec: ModelSpec) -> tuple[str, ...]:
    references, mask = spec.image_urls, spec.mask_url
    return (
        f"`{spec.id}`",
        f"{spec.prompt.max_chars} characters",
        _plain(spec.size.values),
        _plain(spec.n.values),
        (
            f"at most {references.max_items}, {references.max_megabytes} MB each: "
            f"{_plain(references.formats)}"
        ),
        (
            f"{mask.format}, {mask.max_megabytes} MB, with {mask.reference_images} "
            f"{mask.reference_format} of the same size; {mask.repaint} is drawn anew"
        ),
    )


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
