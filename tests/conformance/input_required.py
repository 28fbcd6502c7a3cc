"""Fixtures that ask the client as 2026-07-28 has it: by a result that wants to be called again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from mcp.server.mcpserver import Context
from mcp.types import (
    CallToolResult,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

from evolink_mcp.server.app import App

Answer = CallToolResult | InputRequiredResult


def _answer(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)])


def _ask(requests: dict[str, InputRequest], *, state: str | None = None) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def _form(message: str, field: str, kind: Literal["string", "boolean"] = "string") -> ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(text: str) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(
        params=CreateMessageRequestParams(messages=[message], max_tokens=100)
    )


def _filled_in(ctx: Context[App], key: str, field: str) -> str | None:
    """Return what a person wrote into a field of a form; None if it was not answered."""
    reply = (ctx.input_responses or {}).get(key)
    if not isinstance(reply, ElicitResult) or reply.action != "accept":
        return None
    value = (reply.content or {}).get(field)
    return None if value is None else str(value)


async def test_input_required_result_elicitation(ctx: Context[App]) -> Answer:
    name = _filled_in(ctx, "user_name", "name")
    if name is None:
        return _ask({"user_name": _form("What is your name?", "name")})
    return _answer(f"Hello, {name}!")


async def test_input_required_result_sampling(ctx: Context[App]) -> Answer:
    reply = (ctx.input_responses or {}).get("capital_question")
    if isinstance(reply, CreateMessageResult) and isinstance(reply.content, TextContent):
        return _answer(reply.content.text)
    return _ask({"capital_question": _sample("What is the capital of France?")})


async def test_input_required_result_list_roots(ctx: Context[App]) -> Answer:
    reply = (ctx.input_responses or {}).get("client_roots")
    if isinstance(reply, ListRootsResult):
        return _answer(f"Roots: {', '.join(str(root.uri) for root in reply.roots)}")
    return _ask({"client_roots": ListRootsRequest()})


async def test_input_required_result_request_state(ctx: Context[App]) -> Answer:
    if ctx.request_state == "asked" and _filled_in(ctx, "confirm", "ok"):
        return _answer("state-ok")
    return _ask({"confirm": _form("Please confirm", "ok", "boolean")}, state="asked")


async def test_input_required_result_tampered_state(ctx: Context[App]) -> Answer:
    # A state that was tampered with never gets here: the SDK has it sealed.
    return await test_input_required_result_request_state(ctx)


async def test_input_required_result_multiple_inputs(ctx: Context[App]) -> Answer:
    requests: dict[str, InputRequest] = {
        "user_name": _form("What is your name?", "name"),
        "greeting": _sample("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    if ctx.request_state == "asked" and requests.keys() <= (ctx.input_responses or {}).keys():
        return _answer("All three are answered.")
    return _ask(requests, state="asked")


async def test_input_required_result_multi_round(ctx: Context[App]) -> Answer:
    if ctx.request_state == "step2" and (color := _filled_in(ctx, "step2", "color")):
        return _answer(f"Your favorite color is {color}.")
    if ctx.request_state == "step1" and _filled_in(ctx, "step1", "name"):
        return _ask(
            {"step2": _form("Step 2: What is your favorite color?", "color")}, state="step2"
        )
    return _ask({"step1": _form("Step 1: What is your name?", "name")}, state="step1")


async def test_input_required_result_capabilities(ctx: Context[App]) -> Answer:
    declared = ctx.client_capabilities or ClientCapabilities()
    requests: dict[str, InputRequest] = {}
    if declared.elicitation is not None:
        requests["user_name"] = _form("What is your name?", "name")
    if declared.sampling is not None:
        requests["greeting"] = _sample("Generate a greeting")
    return _ask(requests, state="asked")


async def test_streaming_elicitation(ctx: Context[App]) -> Answer:
    await ctx.report_progress(0, 1, "About to ask")
    return await test_input_required_result_elicitation(ctx)


async def test_input_required_result_prompt(ctx: Context[App]) -> str | InputRequiredResult:
    context = _filled_in(ctx, "user_context", "context")
    if context is None:
        return _ask({"user_context": _form("What context should the prompt use?", "context")})
    return f"Use this context: {context}"


TOOLS: tuple[Callable[..., Any], ...] = (
    test_input_required_result_elicitation,
    test_input_required_result_sampling,
    test_input_required_result_list_roots,
    test_input_required_result_request_state,
    test_input_required_result_tampered_state,
    test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round,
    test_input_required_result_capabilities,
    test_streaming_elicitation,
)
