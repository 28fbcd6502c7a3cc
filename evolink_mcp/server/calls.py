"""Tool calls that buy pictures or wait for them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import anyio
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, InputRequiredResult

from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.catalog.spec import ModelSpec
from evolink_mcp.errors import EvolinkError, JournalUnusable, TaskNotFound, UploadUnfinished
from evolink_mcp.jobs.collect import prepare_folder
from evolink_mcp.jobs.inputs import Prepared, Resolved
from evolink_mcp.jobs.job import Job, Watch, new_job_id
from evolink_mcp.jobs.journal import Budget
from evolink_mcp.jobs.references import check_references
from evolink_mcp.jobs.rows import wish_of
from evolink_mcp.jobs.watch import Watchers
from evolink_mcp.server.app import App
from evolink_mcp.server.arguments import read_generate_image, read_get_task
from evolink_mcp.server.callbacks import check_callback_host
from evolink_mcp.server.connections import Connected
from evolink_mcp.server.consent import split_confirm
from evolink_mcp.server.delivery import DELIVERY
from evolink_mcp.server.limits import mask_limits_of, reference_limits_of
from evolink_mcp.server.principals import current_principal
from evolink_mcp.server.progress import Progress
from evolink_mcp.server.results import Call, failed, finished, unfinished, unread
from evolink_mcp.server.waits import (
    LAST_WORD,
    stopped_before_looking,
    stopped_before_purchase,
    stopped_in_purchase,
)

Arguments = dict[str, object]

_UNREADABLE_INPUT = "image_processing_error"
"""EvoLink docs, "Error Codes": a reference image that is out of reach or corrupt."""

FIRST_LOOK = 5.0
"""Seconds that `get_task` gives a task to be read, however short it is to wait."""


class ToolCall:
    """One tool call of a host."""

    def __init__(self, ctx: Context[App]) -> None:
        """Begin to count the seconds."""
        self._ctx = ctx
        self._app = ctx.request_context.lifespan_context
        self._started = anyio.current_time()
        self._principal = current_principal()
        self._caller = self._app.caller()

    async def answer(
        self, work: Callable[[], Awaitable[CallToolResult | InputRequiredResult]]
    ) -> CallToolResult | InputRequiredResult:
        """Turn a failure that we anticipate into an answer."""
        try:
            return await work()
        except EvolinkError as error:
            return failed(error, caller=self._caller)

    async def generate(self, arguments: Arguments) -> CallToolResult | InputRequiredResult:
        """Check everything, ask the user where that is due, upload, buy, and wait.

        In this order: what is refused is neither asked about nor uploaded, and what the user
        declines is not uploaded either.
        """
        app = self._app
        app.require_key()
        fields, confirmed = split_confirm(arguments, app.settings.confirm)
        request, wait = read_generate_image(
            fields, app.catalogue, confirm=app.settings.confirm, remote=self._caller.remote
        )
        check_callback_host(request, hosts=app.settings.callback_hosts)
        connected = await app.connected()
        await prepare_folder(connected.watchers.folder)
        prepared = await self._inputs_of(request, connected)
        wanted = Job(
            id=new_job_id(),
            principal=self._principal,
            request=request,
            wish=_wish_of(request, prepared),
        )
        if joined := await connected.watchers.join(wanted):
            call = Call(0, joined=True)
            return await self._wait(joined.watch, connected.watchers, asked=wait, call=call)
        budget = await app.consent.obtain(
            self._ctx,
            request,
            budget=app.budget(request),
            confirmed=confirmed,
            publishing=len(prepared.to_publish),
            principal=self._principal,
        )
        if isinstance(budget, InputRequiredResult):
            return budget
        if prepared.to_publish:
            await self._check_day(request, budget)
        resolved = await self._publish(prepared, asked=wait)
        if app.waits.over:
            raise stopped_before_purchase()
        public = replace(request, image_urls=resolved.image_urls, mask_url=resolved.mask_url)
        watchers = (await app.connected()).watchers  # the caller's key may have made way meanwhile
        bought = await watchers.buy(
            public, budget=budget, principal=self._principal, wish=wanted.wish
        )
        call = Call(0, joined=bought.joined, notes=resolved.notes)
        return await self._wait(bought.watch, watchers, asked=wait, call=call)

    async def follow(self, arguments: Arguments) -> CallToolResult:
        """Join whoever watches a task, and wait."""
        self._app.require_key()
        task_id, wait = read_get_task(arguments)
        connected = await self._app.connected()
        try:
            watch = await connected.watchers.follow(task_id, principal=self._principal)
        except JournalUnusable as trouble:
            return unread(trouble, task_id=task_id, caller=self._caller)
        with self._app.waits.within(math.inf):
            await watch.bought()
            await watch.first_look(FIRST_LOOK)
        error = watch.job.error
        if watch.job.task is None and not watch.ended:
            error = stopped_before_looking("get_task")
        if watch.job.task is None and error is not None and not isinstance(error, TaskNotFound):
            return unread(error, task_id=task_id, caller=self._caller)
        return await self._wait(watch, connected.watchers, asked=wait, call=Call(0))

    async def _inputs_of(self, request: ImageRequest, connected: Connected) -> Prepared:
        """Look at every input, but not much longer than the server lives.

        Raises:
            ServerStopping: It stops meanwhile; nothing is bought.
        """
        with self._app.waits.within(math.inf, grace=LAST_WORD):
            return await self._prepare(request, connected)
        raise stopped_before_purchase()

    async def _prepare(self, request: ImageRequest, connected: Connected) -> Prepared:
        """Look at every input before money or a file is at stake."""
        spec: ModelSpec = self._app.catalogue.find(request.model)
        await check_references(request, spec=spec, downloads=connected.downloads)
        return await connected.inputs.prepare(
            request.image_urls,
            request.mask_url,
            limits=reference_limits_of(spec),
            mask_limits=mask_limits_of(spec),
            principal=self._principal,
        )

    async def _publish(self, prepared: Prepared, *, asked: float | None) -> Resolved:
        """Upload, as long as the host lets the call wait; what is begun goes on by itself.

        Raises:
            UploadUnfinished: It takes longer.
            ServerStopping: The server stops meanwhile; nothing is bought.
        """
        if not prepared.to_publish:
            return await prepared.publish()
        publishing = self._app.begin(prepared.publish)
        left = self._patience(asked) - self._elapsed()
        with self._app.waits.within(left, grace=LAST_WORD):
            return await publishing.result()
        raise stopped_before_purchase() if self._app.waits.over else upload_unfinished()

    async def _check_day(self, request: ImageRequest, budget: Budget) -> None:
        """Refuse what the day's credits do not suffice for before a file is made public."""
        journal = await self._app.journal()
        price = await journal.price(request, budget=budget)
        budget.check_day(price, spent=await journal.spent_today())

    async def _wait(
        self, watch: Watch, watchers: Watchers, *, asked: float | None, call: Call
    ) -> CallToolResult:
        """Wait for the end while progress streams, as long as the host allows and we live.

        Raises:
            ServerStopping: The server stops before EvoLink has told the task's id.
        """
        waits = self._app.waits
        with waits.within(math.inf, grace=LAST_WORD):
            await watch.bought()
        if watch.job.task is None and not watch.ended:
            raise stopped_in_purchase()
        progress = Progress(self._ctx.report_progress, self._elapsed)
        left = self._patience(asked) - self._elapsed()
        await waits.in_turn(left, partial(progress.follow, watch), principal=self._principal)
        await self._forget_dead_uploads(watch.job)
        result = await self._result(watch, replace(call, seconds=self._elapsed()))
        delivery = DELIVERY.get()
        watchers.answered(watch, arrived=delivery.arrived if delivery else None)
        return result

    async def _forget_dead_uploads(self, job: Job) -> None:
        """Upload anew next time what EvoLink could not read: it may be deleted there."""
        request, error = job.request, job.error
        if request is None or error is None or error.code != _UNREADABLE_INPUT:
            return
        uploads = (await self._app.connected()).inputs.uploads
        with suppress(JournalUnusable):  # what failed is to be answered in any case
            for url in (*request.image_urls, *filter(None, [request.mask_url])):
                await uploads.forget(url)

    async def _result(self, watch: Watch, call: Call) -> CallToolResult:
        job = watch.job
        if watch.ended and job.error is not None:
            return failed(job.error, job=job, joined=call.joined, caller=self._caller)
        if watch.ended:
            preview = self._app.settings.preview
            return await finished(watch, call, preview=preview, caller=self._caller)
        return unfinished(watch, call)

    def _patience(self, asked: float | None) -> float:
        params = self._ctx.session.client_params
        name = params.client_info.name if params else ""
        has_token = "progress_token" in (self._ctx.request_context.meta or {})
        return self._app.patience.limit(name, has_token=has_token, asked=asked)

    def _elapsed(self) -> float:
        return anyio.current_time() - self._started


def upload_unfinished() -> UploadUnfinished:
    """Say that nothing is bought yet, and how to go on."""
    return UploadUnfinished(
        message="The pictures are still being uploaded to EvoLink; nothing was bought yet.",
        next_step="Call generate_image again with the same arguments in a few seconds: the upload "
        "goes on meanwhile, and is not done twice.",
    )


def _wish_of(request: ImageRequest, prepared: Prepared) -> str:
    """Name what is wanted by what its pictures are, not by where they will be uploaded."""
    references, mask = prepared.names
    return wish_of(replace(request, image_urls=references, mask_url=mask))
