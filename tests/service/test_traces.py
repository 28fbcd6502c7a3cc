"""Spans of OpenTelemetry: mcp makes them, an operator's SDK collects them, no secret is in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.service.busy import ERAS, KEY, Customer, result_in, town_in, written_for
from tests.service.rooms import OTHER, TOKEN, started

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
PROGRAM = str(Path(__file__).with_name("traced.py"))
SECRETS = (KEY, TOKEN, OTHER, "private", "sha256", "Bearer")


async def test_each_call_has_a_span_and_none_holds_a_secret(tmp_path: Path) -> None:
    async with town_in(tmp_path) as town:
        spans = tmp_path / "spans"
        settings = {
            **town.settings,
            "SPANS": str(spans),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        async with started(settings, log=town.log, program=(PROGRAM,)) as (server, url):
            alice = Customer(url)
            for era in ERAS:
                for arguments in (
                    {"prompt": "a private fox", "wait_seconds": 0},
                    {"prompt": "[moderated] a private owl"},
                    {"prompt": "a fox", "secret": "a private word"},
                ):
                    await alice.ask("generate_image", era=era, **arguments)
            request = written_for(ERAS[0], "list_tasks", token=TOKEN, arguments={})
            request["json"]["params"]["_meta"]["traceparent"] = f"00-{TRACE}-{PARENT}-01"
            answer = await alice.post(request)
            assert result_in(answer.text)["tasks"]
            await Customer(url, "evm_" + "c" * 43).ask("list_tasks")
            server.terminate()
            assert await server.wait() == 0
    text = spans.read_text()
    assert [secret for secret in SECRETS if secret in text] == []
    found = [json.loads(line) for line in text.splitlines()]
    bought = [span for span in found if span["name"] == "tools/call generate_image"]
    assert [outcome_of(span) for span in bought] == ["UNSET", "ERROR", "ERROR"] * len(ERAS)
    [listed] = [span for span in found if span["name"] == "tools/call list_tasks"]
    assert listed["context"]["trace_id"].endswith(TRACE)
    assert listed["parent_id"].endswith(PARENT)
    assert listed["attributes"]["mcp.method.name"] == "tools/call"


def outcome_of(span: dict[str, Any]) -> str:
    return str(span["status"]["status_code"])
