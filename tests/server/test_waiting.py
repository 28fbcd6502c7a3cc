"""Bounded waits: a handle as a success, and `get_task` that goes on."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx2 as httpx
import pytest
from inline_snapshot import snapshot
from mcp import Client

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.build import build_server
from tests.servers import BASE_URL, Era, answer_of, host_of, settings_for, text_of

UNKNOWN_TASK = "task-unified-1757156493-imcg5zqt"


async def test_a_task_that_outlives_the_wait_is_a_success_with_a_handle(
    tmp_path: Path, era: Era
) -> None:
    async with host_of(Sandbox(speed=0.1), settings_for(tmp_path), era=era) as host:
        result = await host.call_tool("generate_image", {"prompt": "a fox", "wait_seconds": 0})
    answer, text = answer_of(result), text_of(result)
    assert not result.is_error
    assert (answer.status, answer.credits_reserved) == ("pending", 2.5)
    assert answer.next_call is not None
    assert answer.next_call.model_dump() == {
        "tool": "get_task",
        "arguments": {"task_id": answer.task_id},
    }
    assert answer.next_poll_seconds == snapshot(8)
    assert f'Call get_task with {{"task_id": "{answer.task_id}"}} in 8 s.' in text
    assert "Do not call generate_image again" in text


async def test_get_task_finishes_the_job(sandbox: Sandbox, host: Client, tmp_path: Path) -> None:
    first = await host.call_tool("generate_image", {"prompt": "a fox", "wait_seconds": 0})
    with anyio.fail_after(10):
        result = await host.call_tool("get_task", {"task_id": answer_of(first).task_id})
    [image] = answer_of(result).images or []
    assert answer_of(result).status == "completed"
    assert [str(path) for path in tmp_path.glob("*.png")] == [image.path]
    assert len(sandbox.tasks) == 1


async def test_the_exact_next_call_of_an_answer_works(host: Client) -> None:
    result = await host.call_tool("generate_image", {"prompt": "a fox", "wait_seconds": "0"})
    with anyio.fail_after(10):
        while call := answer_of(result).next_call:
            result = await host.call_tool(call.tool, call.arguments.model_dump())
    assert answer_of(result).status == "completed"


async def test_a_task_of_an_earlier_process_is_found_by_its_id(
    sandbox: Sandbox, tmp_path: Path, era: Era
) -> None:
    async with host_of(sandbox, settings_for(tmp_path), era=era) as host:
        first = await host.call_tool("generate_image", {"prompt": "a fox", "wait_seconds": 0})
    async with host_of(sandbox, settings_for(tmp_path), era=era) as host:
        with anyio.fail_after(10):
            result = await host.call_tool("get_task", {"task_id": answer_of(first).task_id})
    assert answer_of(result).status == "completed"
    assert len(list(tmp_path.glob("*.png"))) == 1


async def test_a_task_can_be_asked_for_again_and_again(host: Client, sandbox: Sandbox) -> None:
    first = await host.call_tool("generate_image", {"prompt": "a fox"})
    before = sandbox.requests.total()
    again = await host.call_tool("get_task", {"task_id": answer_of(first).task_id})
    assert answer_of(again).images == answer_of(first).images
    assert sandbox.requests.total() == before


async def test_get_task_can_just_look(tmp_path: Path) -> None:
    async with host_of(Sandbox(speed=0.1), settings_for(tmp_path)) as host:
        first = await host.call_tool("generate_image", {"prompt": "a fox", "wait_seconds": 0})
        arguments = {"task_id": answer_of(first).task_id, "wait_seconds": 0}
        look = await host.call_tool("get_task", arguments)
        assert answer_of(look).status == "pending"


async def test_looking_at_a_task_of_somebody_else_s_process_reads_it_once(
    tmp_path: Path,
) -> None:
    sandbox = Sandbox(speed=0.1)
    async with host_of(sandbox, settings_for(tmp_path)) as host:
        first = await host.call_tool("generate_image", {"prompt": "a fox", "wait_seconds": 0})
    async with host_of(sandbox, settings_for(tmp_path)) as host:
        arguments = {"task_id": answer_of(first).task_id, "wait_seconds": 0}
        look = await host.call_tool("get_task", arguments)
        assert answer_of(look).status == "pending"
        assert sandbox.requests["GET /v1/tasks"] == 1


async def test_many_calls_for_one_task_are_answered_alike(host: Client, sandbox: Sandbox) -> None:
    first = await host.call_tool("generate_image", {"prompt": "a fox", "wait_seconds": 0})
    paths: set[str | None] = set()

    async def wait() -> None:
        result = await host.call_tool("get_task", {"task_id": answer_of(first).task_id})
        paths.update(image.path for image in answer_of(result).images or [])

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(wait)
    assert len(paths) == 1
    assert len(sandbox.tasks) == 1


async def test_a_cancelled_call_leaves_a_job_that_is_collected(
    sandbox: Sandbox, tmp_path: Path, era: Era
) -> None:
    async with host_of(sandbox, settings_for(tmp_path), era=era) as host:
        with anyio.move_on_after(0):
            await host.call_tool("generate_image", {"prompt": "a fox"})
        with anyio.fail_after(10):
            await host.call_tool("generate_image", {"prompt": "another fox"})
    # The first call was cancelled before it was sent, or it left one whole job.
    assert len(list(tmp_path.glob("*.png"))) == len(sandbox.tasks)


@pytest.mark.parametrize("fault", ["[poll:429+0]", "[poll:500x2]", "[pollhtml:502]"])
async def test_trouble_while_waiting_never_fails_a_task(host: Client, fault: str) -> None:
    with anyio.fail_after(10):
        result = await host.call_tool("generate_image", {"prompt": f"{fault} a fox"})
    assert answer_of(result).status == "completed"


async def test_a_task_that_does_not_exist_is_explained(host: Client) -> None:
    result = await host.call_tool("get_task", {"task_id": UNKNOWN_TASK})
    answer = answer_of(result)
    assert result.is_error
    assert answer.status == "refused"
    assert answer.error is not None
    assert (answer.error.code, answer.error.charged) == ("task_not_found", "no")
    assert "EvoLink knows no such task, or it has expired (HTTP 404" in answer.error.message


@pytest.mark.parametrize(
    "task_id",
    [
        *("", "task-unified-", "../v1/credits", "task-unified-1/../../credits", "task-unified-1?x"),
        *(7, ["task-unified-1-a"], "task-unified-" + "a" * 101, "TASK-UNIFIED-1-a"),
        "task-unified-é",
    ],
)
async def test_what_is_no_task_id_never_gets_into_a_path(
    host: Client, sandbox: Sandbox, task_id: object
) -> None:
    result = await host.call_tool("get_task", {"task_id": task_id})
    assert text_of(result).startswith("task_id: is not a task id; allowed: task-unified-")
    assert not sandbox.requests


@pytest.mark.parametrize("wait", [-1, "soon", True, [], "nan", "1e999999", {}])
async def test_a_wait_that_is_no_number_is_refused(
    host: Client, sandbox: Sandbox, wait: object
) -> None:
    for tool, arguments in {"generate_image": {"prompt": "x"}, "get_task": {}}.items():
        result = await host.call_tool(tool, {**arguments, "wait_seconds": wait})
        assert text_of(result).startswith("wait_seconds: must be a number of seconds")
    assert not sandbox.requests


async def test_an_unknown_argument_of_get_task_is_named(host: Client) -> None:
    result = await host.call_tool("get_task", {"task_id": UNKNOWN_TASK, "id": 1})
    assert text_of(result).startswith(
        '"id": is not an argument of this tool; allowed: task_id, wait_seconds.'
    )


@pytest.mark.parametrize("fault", ["[poll:403]", "[poll:500x3]", "[pollhtml:502x3]"])
async def test_a_task_that_cannot_be_read_may_still_be_a_paid_one(
    sandbox: Sandbox, tmp_path: Path, fault: str
) -> None:
    """As after a crash: another process asks for the task."""
    bought = await sandbox_task(sandbox, f"{fault} a fox")
    async with host_of(sandbox, settings_for(tmp_path)) as host:
        with anyio.fail_after(20):
            result = await host.call_tool("get_task", {"task_id": bought})
        answer = answer_of(result)
        assert result.is_error
        assert (answer.status, answer.task_id) == ("unknown", bought)
        assert answer.next_call is not None
        assert answer.next_call.arguments.task_id == bought
        assert answer.error is not None
        assert answer.error.charged == "unknown"


async def sandbox_task(sandbox: Sandbox, prompt: str) -> str:
    """Buy a task past the server."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=sandbox.app), base_url=BASE_URL
    ) as http:
        key = {"Authorization": "Bearer sk-sandbox"}
        answer = await http.post("/v1/images/generations", json={"prompt": prompt}, headers=key)
    return str(answer.json()["id"])


@pytest.mark.parametrize(
    ("name", "value"), [("SSL_CERT_FILE", "/nowhere"), ("HTTPS_PROXY", "a://b")]
)
async def test_a_network_that_cannot_be_set_up_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    async with Client(build_server(settings_for(tmp_path))) as host:
        result = await host.call_tool("generate_image", {"prompt": "a fox"})
        assert "No connection can be set up" in text_of(result)
        assert name in text_of(result)
