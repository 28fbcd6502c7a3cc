"""What a person sees."""

from __future__ import annotations

from io import StringIO

import pytest
from mcp.types import CallToolResult, TextContent
from rich.console import Console

from evolink_mcp.cli.host import answer_in
from evolink_mcp.cli.show import drawn_progress
from evolink_mcp.errors import EvolinkError


async def test_a_terminal_shows_a_bar() -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with drawn_progress(console) as advance:
        await advance(40.0, 100.0, "task-unified-1-a: [processing], 40 %, 3 s")
    shown = screen.getvalue()
    assert "━" in shown
    assert " 40 %" in shown
    assert "[processing]" in shown


async def test_anything_else_gets_a_line_a_message() -> None:
    page = StringIO()
    with drawn_progress(Console(file=page, force_terminal=False, width=20)) as advance:
        await advance(40.0, 100.0, "task-unified-1-a: [processing], 40 %, 3 s")
        await advance(41.0, None, None)
    assert page.getvalue() == "task-unified-1-a: [processing], 40 %, 3 s\n\n"


def test_a_result_that_explains_nothing_is_passed_on() -> None:
    text = TextContent(type="text", text="Error executing tool generate_image")
    with pytest.raises(EvolinkError, match="Error executing tool generate_image"):
        answer_in(CallToolResult(content=[text], is_error=True))
