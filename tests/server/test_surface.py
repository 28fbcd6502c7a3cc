"""What a host sees before it calls anything. A change here is a change of contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import external_file, snapshot
from jsonschema import Draft202012Validator
from mcp import Client, MCPError
from mcp.types import INVALID_PARAMS, Tool

from evolink_mcp import __version__
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.build import build_server
from evolink_mcp.server.schema import PORTABLE
from tests.servers import host_of, settings_for

SURFACE = Path(__file__).with_name("surface.json")

TOKENS = 2500
"""Ceiling for the tool list of one model; four bytes are taken for a token, on the safe side."""


async def test_the_tools_are_those_that_were_agreed(host: Client) -> None:
    tools = (await host.list_tools()).tools
    surface = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    assert surface == external_file(SURFACE, format=".json")


async def test_schemas_hold_only_what_every_host_can_take(host: Client) -> None:
    for tool in (await host.list_tools()).tools:
        for schema in (tool.input_schema, tool.output_schema or {}):
            assert schema["type"] == "object"
            assert {keyword for part in parts(schema) for keyword in part} <= PORTABLE
            assert all(isinstance(part.get("type"), str) for part in parts(schema))
            assert all(part["type"] == "string" for part in parts(schema) if "enum" in part)
            Draft202012Validator.check_schema(schema)


async def test_the_tool_list_stays_small(host: Client) -> None:
    tools = (await host.list_tools()).tools
    assert all(len((tool.description or "").encode()) <= 2048 for tool in tools)
    assert sum(size_of(tool) for tool in tools) / 4 < TOKENS


async def test_the_instructions_fit_the_smallest_host(host: Client) -> None:
    assert len((host.instructions or "").encode()) <= 2048


async def test_the_server_says_who_it_is(host: Client) -> None:
    assert host.server_info is not None
    assert (host.server_info.name, host.server_info.version) == ("evolink-mcp", __version__)


async def test_annotations_tell_the_tool_that_spends_from_the_one_that_reads(host: Client) -> None:
    hints = {
        tool.name: (tool.annotations.read_only_hint, tool.annotations.idempotent_hint)
        for tool in (await host.list_tools()).tools
        if tool.annotations
    }
    assert hints == snapshot(
        {
            "generate_image": (False, False),
            "get_task": (True, True),
            "list_tasks": (True, True),
            "list_models": (True, True),
            "get_credits": (True, True),
        }
    )


async def test_an_unknown_tool_is_an_error_of_the_protocol(host: Client) -> None:
    with pytest.raises(MCPError) as error:
        await host.call_tool("make_coffee", {})
    assert error.value.code == INVALID_PARAMS


ENABLED = {
    "one": ("gpt-4o-image",),
    "three": ("gpt-image-2", "gemini-3-pro-image-preview", "doubao-seedream-5.0-pro"),
    "all": ("all",),
}
CEILINGS = {"one": TOKENS, "three": 3000, "all": 4000}


@pytest.mark.parametrize("which", ENABLED)
async def test_every_choice_of_models_is_portable_and_small(
    which: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, models=ENABLED[which], confirm="always")
    async with host_of(sandbox, settings) as host:
        tools = (await host.list_tools()).tools
    assert {keyword for tool in tools for part in parts(tool.input_schema) for keyword in part} <= (
        PORTABLE
    )
    assert all(len((tool.description or "").encode()) <= 2048 for tool in tools)
    assert sum(size_of(tool) for tool in tools) / 4 < CEILINGS[which]


def test_a_server_needs_no_key_and_no_network_to_be_built(tmp_path: Path) -> None:
    sandbox = Sandbox()
    build_server(settings_for(tmp_path, api_key=""))
    assert not sandbox.requests


def parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Walk a schema and those inside it."""
    yield schema
    for inner in schema.get("properties", {}).values():
        yield from parts(inner)
    if "items" in schema:
        yield from parts(schema["items"])


def size_of(tool: Tool) -> int:
    """Return the bytes of what a model gets to read of a tool."""
    surface = {"name": tool.name, "description": tool.description, "schema": tool.input_schema}
    return len(json.dumps(surface).encode())
