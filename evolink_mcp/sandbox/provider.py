"""The provider behind the paths: sells tasks and tells how they are."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import httpx2 as httpx

from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.catalog.spec import load_models
from evolink_mcp.sandbox import answers
from evolink_mcp.sandbox.account import Account
from evolink_mcp.sandbox.callbacks import send_callback
from evolink_mcp.sandbox.faults import Faults, read_faults
from evolink_mcp.sandbox.files import FileStore
from evolink_mcp.sandbox.outcomes import Outcomes
from evolink_mcp.sandbox.refusals import (
    MODERATED,
    QUERY_REASONS,
    SUBMIT_REASONS,
    Refused,
)
from evolink_mcp.sandbox.tasks import (
    ID_PREFIX,
    SandboxTask,
    drawn_seconds,
    estimated_seconds,
    new_task_id,
    stage_at,
)

# Read with the code, so that neither a request nor a new sandbox waits for the disk.
MODELS: Final = load_models()

_log = logging.getLogger(__name__)


class Provider:
    """One account, its tasks and its files. Times are Unix seconds by `now`."""

    def __init__(
        self,
        account: Account,
        *,
        speed: float,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        """Sell to `account`; what leaves the machine goes through `transport`."""
        self.account = account
        self.files = FileStore(now)
        self.tasks: dict[str, SandboxTask] = {}
        self._speed, self._now, self._sleep, self._transport = speed, now, sleep, transport
        self._outcomes = Outcomes(
            models=MODELS, account=account, files=self.files, transport=transport
        )
        self._refused: Counter[str] = Counter()
        self._polled: Counter[str] = Counter()

    async def buy(
        self, request: ImageRequest, *, base_url: str, idempotency_key: str | None
    ) -> SandboxTask:
        """Make a task and take its credits.

        Raises:
            Refused: A fault in the prompt asks for it, or the credits do not suffice (402).
        """
        faults = read_faults(request.prompt)
        self._refuse_on_request(request.prompt, faults)
        spec = MODELS[request.model]
        price = spec.expected_credits * (request.n or 1)
        await self._check_credits(price)
        self.account.charge(price)
        created = self._now()
        task = SandboxTask(
            id=new_task_id(created),
            request=request,
            faults=faults,
            created=created,
            estimate=estimated_seconds(request, self._speed),
            duration=self._draw_duration(request, faults),
            credits_reserved=price,
            idempotency_key=idempotency_key,
            base_url=base_url,
            folder=secrets.token_hex(16),
            outputs=spec.outputs or 1,
        )
        self.tasks[task.id] = task
        _log.info("task %s accepted", task.id)
        return task

    async def query(self, task_id: str) -> answers.Body:
        """Return the answer to a GET of a task.

        Raises:
            Refused: The id is none (400) or unknown (404), or a fault asks for it.
        """
        if not task_id.startswith(ID_PREFIX):
            raise Refused(status=400, reason=QUERY_REASONS[400], extra={"param": "task_id"})
        if task_id not in self.tasks:
            raise Refused(status=404, reason=QUERY_REASONS[404])
        task = self.tasks[task_id]
        polls, turn = task.faults.polls, self._polled[task_id]
        self._polled[task_id] += 1
        if turn < len(polls):
            raise polls[turn].refused(QUERY_REASONS)
        return await self._describe(task)

    async def balance(self) -> answers.Body:
        """Return the answer about credits, with every task settled that is over."""
        await self._settle()
        return answers.balance(self.account)

    async def announce(self, task: SandboxTask, url: str) -> None:
        """Wait until a task is over, and send its answer to the caller's callback."""
        while (left := task.ends - self._now()) > 0:
            await self._sleep(left)
        body = await self._describe(task)
        await send_callback(url, body, transport=self._transport, sleep=self._sleep)

    async def _describe(self, task: SandboxTask) -> answers.Body:
        stage = stage_at(task, self._now())
        if stage.status == "ended":
            return answers.finished(task, await self._outcomes.find(task))
        return answers.unfinished(task, stage)

    def _refuse_on_request(self, prompt: str, faults: Faults) -> None:
        turn = self._refused[prompt]
        if turn < len(faults.submits):
            self._refused[prompt] += 1
            raise faults.submits[turn].refused(SUBMIT_REASONS)
        if "moderated" in faults.flags:
            raise Refused(status=400, reason=MODERATED)

    async def _check_credits(self, price: float) -> None:
        if price > self.account.credits:
            await self._settle()
        left = self.account.credits
        if price > left:
            extra = {"estimated_credits": price, "remaining_credits": left}
            raise Refused(status=402, reason=SUBMIT_REASONS[402], extra=extra)

    async def _settle(self) -> None:
        """Let what is over end, so that credits of failed tasks are back."""
        for task in tuple(self.tasks.values()):
            if stage_at(task, self._now()).status == "ended":
                await self._outcomes.find(task)

    def _draw_duration(self, request: ImageRequest, faults: Faults) -> float:
        number = len(self.tasks)
        return drawn_seconds(request, faults=faults, speed=self._speed, number=number)
