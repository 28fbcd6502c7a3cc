"""A call that a host gives up leaves a job that ends; calling again finds it."""

from __future__ import annotations

import json

import anyio

from tests.pipes import LIMIT, initialize, request, send, started
from tests.recovery.scene import CALL, Scene


async def test_a_cancelled_call_is_found_again_and_a_delivered_one_is_bought_anew(
    scene: Scene,
) -> None:
    given_up = {"requestId": 2, "reason": "the host has no more patience"}
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": given_up}
    wanted = {**CALL, "arguments": {"prompt": "[slow:200] a red fox"}}
    with anyio.fail_after(LIMIT):
        async with started({}, program=scene.victim()) as (server, lines):
            await send(server, initialize())
            await send(server, request(2, "tools/call", {**wanted, "_meta": {"progressToken": 1}}))
            assert (await anext(lines))["method"] == "notifications/progress"
            await send(server, json.dumps(cancelled) + "\n")
            task_ids: list[str] = []
            for number in (3, 4):
                await send(server, request(number, "tools/call", wanted))
                answer = await anext(lines)
                assert answer["id"] == number
                task_ids.append(answer["result"]["structuredContent"]["task_id"])
    assert task_ids == list(scene.sandbox.tasks)
    assert scene.posts == 2
    assert scene.pictures == sorted(f"{task_id}-1.png" for task_id in task_ids)
