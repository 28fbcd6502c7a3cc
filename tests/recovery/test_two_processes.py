"""Two servers on one data folder, one of them killed half way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from mcp import Client
from starlette.types import ASGIApp, Receive, Scope, Send

from evolink_mcp.sandbox import Sandbox, outcomes, serve
from evolink_mcp.sandbox.drawing import draw_picture
from tests.pipes import initialize, request, send, started
from tests.recovery.scene import CALL, Scene, entries_of, until_nothing_runs
from tests.servers import answer_of

JOBS, PRICE = 200, 2.5
CAP = 190 * PRICE
AT_ONCE = 20
HALF_WAY = 20
"""Tasks that the doomed process has read when it is killed."""
SLOW = "[slow:400]"
"""Eight seconds at the speed of this sandbox: the death finds jobs under way."""
LONG = 110
"""Seconds after which it is taken to hang."""


class Readings:
    """Notes which process read which task, in their order."""

    def __init__(self) -> None:
        self.by_task = defaultdict[str, list[str]](list)
        self.enough = anyio.Event()

    def note(self, task: str, reader: str) -> None:
        self.by_task[task].append(reader)
        if sum("evolink-mcp/doomed" in readers for readers in self.by_task.values()) >= HALF_WAY:
            self.enough.set()


class Readers:
    """Stands before the sandbox and sees who reads."""

    def __init__(self, app: ASGIApp, readings: Readings) -> None:
        self._app = app
        self._readings = readings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if path.startswith("/v1/tasks/"):
            headers: Mapping[bytes, bytes] = dict(scope["headers"])
            self._readings.note(path, headers[b"user-agent"].decode())
        await self._app(scope, receive, send)


@dataclass
class Heir:
    """The host whose server goes on; it buys, and kills the other server on the way."""

    host: Client
    refused: list[str] = field(default_factory=list[str])

    async def buy(self, prompt: str) -> None:
        arguments = {"prompt": prompt, "wait_seconds": 0}
        result = await self.host.call_tool("generate_image", arguments)
        if error := answer_of(result).error:
            self.refused.append(error.code)

    async def see_all_through(self) -> None:
        """Wait for whatever is under way, one job after the other."""
        for entry in await entries_of(self.host, status="running"):
            await self.host.call_tool("get_task", {"task_id": entry.task_id})
        await until_nothing_runs(self.host)

    async def buy_all(self, prompts: Iterable[str]) -> None:
        room = anyio.CapacityLimiter(AT_ONCE)

        async def in_turn(prompt: str) -> None:
            async with room:
                await self.buy(prompt)

        async with anyio.create_task_group() as group:
            for prompt in prompts:
                group.start_soon(in_turn, prompt)


@pytest.fixture
def one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sandbox draw once: it is not what this is about, and it takes its time."""
    picture = draw_picture("a fox", width=1024, height=1024)

    def draw(*_: object, **__: object) -> bytes:
        return picture

    monkeypatch.setattr(outcomes, "draw_picture", draw)


@pytest.mark.usefixtures("one_picture")
async def test_every_job_ends_once_and_the_cap_holds(tmp_path: Path) -> None:
    sandbox, readings = Sandbox(speed=50), Readings()
    sandbox.app.add_middleware(Readers, readings=readings)
    capped = {"EVOLINK_DAILY_CREDITS": str(CAP)}
    with anyio.fail_after(LONG):
        async with serve(sandbox) as url:
            scene = Scene(sandbox, url, tmp_path)
            doomed = scene.victim(name="doomed", **capped)
            async with (
                started({}, program=doomed, limit=LONG) as (server, _),
                Client(scene.victim(name="heir", **capped)) as host,
            ):
                heir = Heir(host)
                await send(server, initialize())
                for number in range(JOBS // 2):
                    call = {**CALL, "arguments": {"prompt": f"{SLOW} {number}"}}
                    await send(server, request(number + 2, "tools/call", call))
                await heir.buy_all(f"{SLOW} {number}" for number in range(JOBS // 2, JOBS * 3 // 4))
                await readings.enough.wait()
                server.kill()
                await heir.buy_all(f"{SLOW} {number}" for number in range(JOBS * 3 // 4, JOBS))
                await heir.buy_all(f"{SLOW} more {n}" for n in range(JOBS - len(sandbox.tasks)))
                await heir.see_all_through()
                unknown = await entries_of(host, status="unknown")
    assert CAP - PRICE * AT_ONCE <= len(sandbox.tasks) * PRICE <= CAP
    assert set(heir.refused) == {"daily_cap_reached"}
    saved, made = set(scene.pictures), {f"{task_id}-1.png" for task_id in sandbox.tasks}
    assert saved <= made
    assert len(made - saved) <= len(unknown)  # the POST was under way when the process died
    handed_over = [readers for readers in readings.by_task.values() if len(set(readers)) == 2]
    assert handed_over
    for readers in handed_over:
        heir_began = readers.index("evolink-mcp/heir")
        assert set(readers[heir_began:]) == {"evolink-mcp/heir"}
