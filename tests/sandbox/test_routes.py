from __future__ import annotations

import re

import httpx2 as httpx
import pytest
from starlette.types import Message

from evolink_mcp.sandbox import Sandbox
from tests.sandbox.desk import BASE_URL, GENERATIONS, Clock, Desk, error_of


async def test_a_post_is_answered_with_the_documented_task(desk: Desk) -> None:
    answer = await desk.post("a lighthouse in fog", n=2, size="2:3")
    body = answer.json()
    assert re.fullmatch(r"task-unified-1700000000-[a-z0-9]{8}", body.pop("id"))
    assert answer.status_code == 200
    assert body == {
        "created": 1_700_000_000,
        "model": "gpt-4o-image",
        "object": "image.generation.task",
        "progress": 0,
        "status": "pending",
        "task_info": {"can_cancel": True, "estimated_time": 45},
        "type": "image",
        "usage": {
            "billing_rule": "per_call",
            "credits_reserved": 5.0,
            "user_group": "default",
        },
    }


async def test_a_faster_sandbox_announces_and_takes_less_time(clock: Clock) -> None:
    sandbox = Sandbox(speed=10, now=clock)
    transport = httpx.ASGITransport(app=sandbox.app)
    headers = {"authorization": "Bearer sk-sandbox"}
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=headers) as http:
        desk = Desk(sandbox, clock, http)
        answer = await desk.post()
        task = sandbox.tasks[answer.json()["id"]]
        clock.now += 6
        body = await desk.read(task)
    assert answer.json()["task_info"]["estimated_time"] == 4.5
    assert body["status"] == "completed"


async def test_a_get_follows_the_task_to_its_pictures(desk: Desk) -> None:
    task = await desk.buy(n=2)
    waiting = await desk.read(task)
    desk.clock.now += task.duration / 2
    halfway = await desk.read(task)
    done = await desk.finish(task)
    common = {
        "created": 1_700_000_000,
        "id": task.id,
        "model": "gpt-4o-image",
        "object": "image.generation.task",
        "type": "image",
    }
    under_way = {"can_cancel": True, "estimated_time": 45}
    folder = f"{BASE_URL}/files/results/{task.folder}"
    assert waiting == {**common, "status": "pending", "progress": 0, "task_info": under_way}
    assert halfway == {**common, "status": "processing", "progress": 67, "task_info": under_way}
    assert done == {
        **common,
        "status": "completed",
        "progress": 100,
        "task_info": {"can_cancel": False},
        "results": [f"{folder}/1.png", f"{folder}/2.png"],
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", GENERATIONS), ("GET", "/v1/tasks/task-unified-1-abcdefgh"), ("GET", "/v1/credits")],
)
@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer sk-wrong", "Basic sk-sandbox", "sk-sandbox", "Bearer \u00e9"]
)
async def test_without_the_right_key_nothing_is_answered(
    desk: Desk, method: str, path: str, header: str
) -> None:
    headers = [(b"authorization", header.encode())]
    answer = await desk.http.request(method, path, headers=headers, json={"prompt": "a fox"})
    error = {
        "code": "unauthorized",
        "message": "The API key is missing or not valid.",
        "type": "authentication_error",
    }
    assert answer.status_code == 401
    assert error_of(answer) == error
    assert not desk.sandbox.tasks


async def test_the_scheme_of_the_key_may_be_spelled_in_any_case(desk: Desk) -> None:
    answer = await desk.http.get("/v1/credits", headers={"authorization": "bearer  sk-sandbox "})
    assert answer.status_code == 200


async def test_a_sandbox_may_have_another_key() -> None:
    transport = httpx.ASGITransport(app=Sandbox(key="sk-mine").app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as http:
        answer = await http.get("/v1/credits", headers={"authorization": "Bearer sk-mine"})
        page = (await http.get("/")).text
    assert answer.status_code == 200
    assert "Authorization: Bearer sk-mine" in page


async def test_an_id_of_another_form_is_refused(desk: Desk) -> None:
    answer = await desk.http.get("/v1/tasks/job-17")
    assert answer.status_code == 400
    assert error_of(answer) == {
        "code": "invalid_task_id",
        "message": "A task id begins with task-unified-.",
        "type": "invalid_request_error",
        "param": "task_id",
    }


async def test_a_task_that_nobody_bought_is_not_found(desk: Desk) -> None:
    answer = await desk.http.get("/v1/tasks/task-unified-1700000000-abcdefgh")
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "task_not_found"
    assert error_of(answer)["type"] == "invalid_request_error"


async def test_the_front_page_says_what_this_is_and_how_to_break_it(desk: Desk) -> None:
    answer = await desk.http.get("/")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.startswith("EvoLink sandbox\n")
    assert "Authorization: Bearer sk-sandbox" in answer.text
    assert "| `[cut-after-accept]` |" in answer.text


async def test_every_request_is_counted_refused_ones_too(desk: Desk) -> None:
    task = await desk.buy()
    await desk.post("")
    await desk.read(task)
    await desk.http.get("/v1/tasks/job-17")
    await desk.http.get("/files/nothing/here.png")
    await desk.http.get("/v1/credits", headers={"authorization": "Bearer sk-wrong"})
    await desk.http.get("/v1/models")
    assert desk.sandbox.requests == {
        f"POST {GENERATIONS}": 2,
        "GET /v1/tasks": 2,
        "GET /files": 1,
        "GET /v1/credits": 1,
        "GET /v1/models": 1,
    }


async def test_a_client_that_hangs_up_while_sending_buys_nothing(desk: Desk) -> None:
    sent: list[Message] = []
    incoming: list[Message] = [
        {"type": "http.request", "body": b'{"prompt": "a f', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": GENERATIONS,
        "headers": [(b"authorization", b"Bearer sk-sandbox")],
        "query_string": b"",
    }
    await desk.sandbox.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert not desk.sandbox.tasks
