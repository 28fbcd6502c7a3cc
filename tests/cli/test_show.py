"""What a person sees."""

from __future__ import annotations

import signal
from io import StringIO

import pytest
from mcp.types import CallToolResult, ElicitRequestFormParams, TextContent
from rich.console import Console

from evolink_mcp.cli.host import _next_call, answer_in
from evolink_mcp.cli.show import drawn_progress
from evolink_mcp.errors import EvolinkError
from evolink_mcp.server.answers import Answer, Failure, NextCall, NextCallArguments, Status

FORM = {"type": "object", "properties": {"buy": {"type": "boolean"}}}


async def test_a_terminal_shows_a_bar() -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with drawn_progress(console) as bar:
        await bar.advance(40.0, 100.0, "task-unified-1-a: [processing], 40 %, 3 s")
    shown = screen.getvalue()
    assert "━" in shown
    assert " 40 %" in shown
    assert "[processing]" in shown


async def test_anything_else_gets_a_line_a_message() -> None:
    page = StringIO()
    with drawn_progress(Console(file=page, force_terminal=False, width=20)) as bar:
        await bar.advance(40.0, 100.0, "task-unified-1-a: [processing], 40 %, 3 s")
        await bar.advance(41.0, None, None)
    assert page.getvalue() == "task-unified-1-a: [processing], 40 %, 3 s\n\n"


@pytest.mark.parametrize(
    ("typed", "action"),
    [
        ("y\n", "accept"),
        (" Yes\n", "accept"),
        ("n\n", "decline"),
        ("yen\n", "decline"),
        ("\n", "decline"),
        ("", "decline"),
    ],
)
async def test_a_person_is_asked_before_money_is_spent(
    typed: str, action: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keyboard = StringIO(typed)
    monkeypatch.setattr(keyboard, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", keyboard)
    form = ElicitRequestFormParams(message="Buy?", requested_schema=FORM)
    with drawn_progress(Console(file=StringIO())) as bar:
        answer = await bar.ask(None, form)
        assert answer.action == action
        assert not bar.left
        assert answer.content == ({"buy": True} if action == "accept" else None)
        assert capsys.readouterr().err == ("Buy? [y/N]: " if typed else "Buy? [y/N]: \n")


async def test_ctrl_c_at_the_question_is_told_to_the_server_and_to_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keyboard = StringIO()
    monkeypatch.setattr(keyboard, "isatty", lambda: True)
    monkeypatch.setattr(keyboard, "readline", lambda: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr("sys.stdin", keyboard)
    form = ElicitRequestFormParams(message="Buy?", requested_schema=FORM)
    with drawn_progress(Console(file=StringIO())) as bar:
        assert (await bar.ask(None, form)).action == "cancel"
        assert bar.left
    assert capsys.readouterr().err == "Buy? [y/N]: \n"


async def test_nobody_at_the_terminal_means_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("y\n"))
    form = ElicitRequestFormParams(message="Buy?", requested_schema=FORM)
    with drawn_progress(Console(file=StringIO())) as bar:
        assert (await bar.ask(None, form)).action == "decline"
    assert capsys.readouterr().err == "Buy?\nNobody is at the terminal to answer.\n"


def test_a_person_who_was_asked_is_not_told_what_a_model_would_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Failure(
        code="declined",
        message="The program ...",
        next_step="Tell the user ...",
        retryable=False,
        charged="no",
    )
    answer = Answer(status="failed", error=told).model_dump(mode="json")
    keyboard = StringIO()
    monkeypatch.setattr("sys.stdin", keyboard)
    for is_terminal, said in [(True, "No credits were spent."), (False, "EVOLINK_CONFIRM=never")]:
        monkeypatch.setattr(keyboard, "isatty", lambda answer=is_terminal: answer)
        with pytest.raises(EvolinkError, match="Not bought") as raised:
            answer_in(CallToolResult(content=[], structured_content=answer, is_error=True))
        assert said in raised.value.next_step
        assert "user" not in raised.value.next_step


def test_a_result_that_explains_nothing_is_passed_on() -> None:
    text = TextContent(type="text", text="Error executing tool generate_image")
    with pytest.raises(EvolinkError, match="Error executing tool generate_image"):
        answer_in(CallToolResult(content=[text], is_error=True))


@pytest.mark.parametrize(
    ("status", "followed"), [("pending", True), ("processing", True), ("completed", False)]
)
def test_only_an_answer_that_is_not_final_is_followed(status: Status, *, followed: bool) -> None:
    call = NextCall(tool="get_task", arguments=NextCallArguments(task_id="task-unified-1-a"))
    answer = Answer(status=status, next_call=call).model_dump(mode="json")
    result = CallToolResult(content=[], structured_content=answer)
    assert _next_call(result) == (call if followed else None)
