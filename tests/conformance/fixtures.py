"""What the scenarios of the conformance suite call: tools, resources and prompts of its choice.

Names and answers are the suite's; its scenario descriptions say them.
"""

from __future__ import annotations

import io
import json
import wave
from base64 import b64encode
from collections.abc import Callable
from typing import Annotated, Any

import anyio
from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    ClientCapabilities,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from PIL import Image
from pydantic import Field

from evolink_mcp.server.app import App
from tests.conformance import input_required

STEP = 0.05
"""Seconds between the messages of a tool; the suite asks for about as many."""


def _png() -> bytes:
    with io.BytesIO() as file:
        Image.new("RGB", (1, 1), "red").save(file, "png")
        return file.getvalue()


def _wav() -> bytes:
    with io.BytesIO() as file:
        with wave.open(file, "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(1)
            sound.setframerate(8000)
            sound.writeframes(b"\x80")
        return file.getvalue()


PNG, WAV = _png(), _wav()


def _text(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def _image() -> ImageContent:
    return ImageContent(type="image", data=b64encode(PNG).decode(), mime_type="image/png")


def _embedded(uri: str, text: str, *, mime_type: str = "text/plain") -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return EmbeddedResource(type="resource", resource=contents)


def _answer(*content: ContentBlock) -> CallToolResult:
    return CallToolResult(content=list(content))


# --- tools that answer ---


async def test_simple_text() -> CallToolResult:
    return _answer(_text("This is a simple text response for testing."))


async def test_image_content() -> CallToolResult:
    return _answer(_image())


async def test_audio_content() -> CallToolResult:
    audio = AudioContent(type="audio", data=b64encode(WAV).decode(), mime_type="audio/wav")
    return _answer(audio)


async def test_embedded_resource() -> CallToolResult:
    return _answer(_embedded("test://embedded-resource", "This is an embedded resource content."))


async def test_multiple_content_types() -> CallToolResult:
    data = json.dumps({"test": "data", "value": 123})
    return _answer(
        _text("Multiple content types test:"),
        _image(),
        _embedded("test://mixed-content-resource", data, mime_type="application/json"),
    )


async def test_error_handling() -> CallToolResult:
    raise ToolError("This tool intentionally returns an error for testing")


async def test_custom_header(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
) -> CallToolResult:
    return _answer(_text(region))


async def test_missing_capability(ctx: Context[App]) -> CallToolResult:
    declared = ctx.client_capabilities or ClientCapabilities()
    if declared.sampling is None:
        needed: dict[str, object] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs sampling", needed)
    return _answer(_text("Sampling is declared."))


async def json_schema_2020_12_tool() -> CallToolResult:
    return _answer(_text("It is the schema that counts."))


JSON_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


# --- tools that say something on the way ---


async def test_tool_with_progress(ctx: Context[App]) -> CallToolResult:
    for step in (0, 50, 100):
        await ctx.report_progress(step, 100, f"Completed step {step} of 100")
        await anyio.sleep(STEP)
    return _answer(_text("Tool with progress executed successfully"))


async def test_logging_tool(ctx: Context[App]) -> CallToolResult:
    # Deprecated by 2026-07-28; the suite looks that it goes out to those only who asked for it.
    await ctx.session.send_log_message(  # pyright: ignore[reportDeprecated]
        "info", "This is logged.", related_request_id=ctx.request_id
    )
    return _answer(_text("Logged"))


async def test_trigger_tool_change(ctx: Context[App]) -> CallToolResult:
    await ctx.notify_tools_changed()
    return _answer(_text("Announced"))


async def test_trigger_prompt_change(ctx: Context[App]) -> CallToolResult:
    await ctx.notify_prompts_changed()
    return _answer(_text("Announced"))


# --- tools that ask the client, as up to 2025-11-25 ---


async def test_sampling(prompt: str, ctx: Context[App]) -> CallToolResult:
    question = SamplingMessage(role="user", content=_text(prompt))
    reply = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]
        [question], max_tokens=100, related_request_id=ctx.request_id
    )
    said = reply.content.text if isinstance(reply.content, TextContent) else ""
    return _answer(_text(f"LLM response: {said}"))


async def _elicit(ctx: Context[App], message: str, properties: dict[str, Any]) -> str:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    reply = await ctx.session.elicit(message, schema, related_request_id=ctx.request_id)
    return f"action={reply.action}, content={json.dumps(reply.content or {})}"


async def test_elicitation(message: str, ctx: Context[App]) -> CallToolResult:
    username = {"type": "string", "description": "User's response"}
    email = {"type": "string", "description": "User's email address"}
    said = await _elicit(ctx, message, {"username": username, "email": email})
    return _answer(_text(f"User response: {said}"))


_STATUSES = ["active", "inactive", "pending"]

_DEFAULTS: dict[str, Any] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": _STATUSES, "default": "active"},
    "verified": {"type": "boolean", "default": True},
}


async def test_elicitation_sep1034_defaults(ctx: Context[App]) -> CallToolResult:
    said = await _elicit(ctx, "Please provide user information", _DEFAULTS)
    return _answer(_text(f"Elicitation completed: {said}"))


_TITLED = [{"const": "value1", "title": "First"}, {"const": "value2", "title": "Second"}]

_ENUMS: dict[str, Any] = {
    "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
    "titledSingle": {"type": "string", "oneOf": _TITLED},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2"],
        "enumNames": ["Option One", "Option Two"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2"]}},
    "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
}


async def test_elicitation_sep1330_enums(ctx: Context[App]) -> CallToolResult:
    said = await _elicit(ctx, "Please choose", _ENUMS)
    return _answer(_text(f"Elicitation completed: {said}"))


# --- resources and prompts ---


async def static_text() -> str:
    return "This is the content of the static text resource."


async def static_binary() -> bytes:
    return PNG


async def watched_resource() -> str:
    return "This may change."


async def template(id: str) -> str:  # noqa: A002 - the suite's name
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


async def test_simple_prompt() -> str:
    return "This is a simple prompt for testing."


async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


async def test_prompt_with_embedded_resource(
    resourceUri: str,  # noqa: N803 - the suite's name
) -> list[UserMessage]:
    embedded = _embedded(resourceUri, "Embedded resource content for testing.")
    return [UserMessage(embedded), UserMessage("Please process the embedded resource above.")]


async def test_prompt_with_image() -> list[UserMessage]:
    return [UserMessage(_image()), UserMessage("Please analyze the image above.")]


TOOLS: tuple[Callable[..., Any], ...] = (
    test_simple_text,
    test_image_content,
    test_audio_content,
    test_embedded_resource,
    test_multiple_content_types,
    test_error_handling,
    test_custom_header,
    test_missing_capability,
    json_schema_2020_12_tool,
    test_tool_with_progress,
    test_logging_tool,
    test_trigger_tool_change,
    test_trigger_prompt_change,
    test_sampling,
    test_elicitation,
    test_elicitation_sep1034_defaults,
    test_elicitation_sep1330_enums,
    *input_required.TOOLS,
)

PROMPTS: tuple[Callable[..., Any], ...] = (
    test_simple_prompt,
    test_prompt_with_arguments,
    test_prompt_with_embedded_resource,
    test_prompt_with_image,
    input_required.test_input_required_result_prompt,
)


def add_fixtures(server: MCPServer[App]) -> None:
    """Add what the scenarios call."""
    for tool in TOOLS:
        server.tool(description=f"A fixture: {tool.__name__}.")(tool)
    schematic = server._tool_manager.get_tool(json_schema_2020_12_tool.__name__)
    assert schematic is not None
    schematic.parameters = JSON_SCHEMA
    for prompt in PROMPTS:
        server.prompt(description=f"A fixture: {prompt.__name__}.")(prompt)
    server.resource("test://static-text", mime_type="text/plain")(static_text)
    server.resource("test://static-binary", mime_type="image/png")(static_binary)
    server.resource("test://watched-resource", mime_type="text/plain")(watched_resource)
    server.resource("test://template/{id}/data", mime_type="application/json")(template)
