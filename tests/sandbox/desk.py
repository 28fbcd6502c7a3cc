"""What the sandbox's tests share: a clock that only they move, and a client."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from typing import cast

import anyio.lowlevel
import httpx2 as httpx
from PIL import Image

from evolink_mcp.sandbox import Sandbox, SandboxTask

BASE_URL = "https://sandbox.test"
GENERATIONS = "/v1/images/generations"
DAY = 24 * 60 * 60

Body = dict[str, object]


@dataclass
class Clock:
    """Time that passes when somebody sleeps, and when a test says so."""

    now: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list[float])

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()


@dataclass
class Desk:
    """A customer of the sandbox."""

    sandbox: Sandbox
    clock: Clock
    http: httpx.AsyncClient

    async def post(self, prompt: str = "a fox", **fields: object) -> httpx.Response:
        return await self.http.post(GENERATIONS, json={"prompt": prompt, **fields})

    async def buy(self, prompt: str = "a fox", **fields: object) -> SandboxTask:
        answer = await self.post(prompt, **fields)
        assert answer.status_code == 200, answer.text
        return self.sandbox.tasks[answer.json()["id"]]

    async def read(self, task: SandboxTask) -> Body:
        answer = await self.http.get(f"/v1/tasks/{task.id}")
        assert answer.status_code == 200, answer.text
        return cast("Body", answer.json())

    async def finish(self, task: SandboxTask) -> Body:
        self.clock.now = task.ends
        return await self.read(task)

    async def outcome(self, prompt: str = "a fox", **fields: object) -> Body:
        return await self.finish(await self.buy(prompt, **fields))

    async def failure(self, prompt: str = "a fox", **fields: object) -> dict[str, str]:
        body = await self.outcome(prompt, **fields)
        assert body["status"] == "failed", body
        return cast("dict[str, str]", body["error"])


def urls_of(body: Body) -> list[str]:
    return cast("list[str]", body["results"])


def error_of(answer: httpx.Response) -> Body:
    return cast("Body", answer.json()["error"])


def picture(form: str = "PNG", size: tuple[int, int] = (48, 32)) -> bytes:
    stream = BytesIO()
    Image.new("RGB", size, "teal").save(stream, form)
    return stream.getvalue()


def size_of(content: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(content)) as image:
        image.load()
        return image.size
