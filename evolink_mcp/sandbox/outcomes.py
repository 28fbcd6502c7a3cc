"""How tasks end: found out once, when somebody first wants to know."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
import httpx2 as httpx

from evolink_mcp.catalog.spec import ModelSpec
from evolink_mcp.sandbox.account import Account
from evolink_mcp.sandbox.dimensions import picture_size, picture_type
from evolink_mcp.sandbox.drawing.draw import draw_picture
from evolink_mcp.sandbox.drawing.files import as_type, white_where_clear
from evolink_mcp.sandbox.failures import Failure, named_failure, ordering_failure
from evolink_mcp.sandbox.faults import Faults, without_markers
from evolink_mcp.sandbox.fetching import Fetcher
from evolink_mcp.sandbox.files import FileStore
from evolink_mcp.sandbox.references import Inputs, collect_inputs
from evolink_mcp.sandbox.tasks import SandboxTask

LINK_SECONDS: Final = 24 * 60 * 60
"""How long a result's link lives (EvoLink docs, every image page)."""

_log = logging.getLogger(__name__)

_PAGE = b"<!doctype html>\n<title>Not a picture</title>\n<p>This is a page, not a picture.</p>\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task: a failure, or the URLs of its pictures."""

    failure: Failure | None = None
    urls: tuple[str, ...] = ()


class Outcomes:
    """Ends tasks: gets their inputs, offers their pictures, gives credits back."""

    def __init__(
        self,
        *,
        models: Mapping[str, ModelSpec],
        account: Account,
        files: FileStore,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        """Put pictures into `files`, and fetch foreign inputs through `transport`."""
        self._models = models
        self._account = account
        self._files = files
        self._fetcher = Fetcher(files, transport)
        self._known: dict[str, Outcome] = {}
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def find(self, task: SandboxTask) -> Outcome:
        """Return how a task that is over has ended."""
        async with self._locks[task.id]:
            if task.id not in self._known:
                self._known[task.id] = await self._end(task)
            return self._known[task.id]

    async def _end(self, task: SandboxTask) -> Outcome:
        failure = _forced_failure(task.faults)
        inputs = failure or await self._collect(task)
        if isinstance(inputs, Failure):
            self._account.give_back(task.credits_reserved)
            _log.info("task %s failed: %s", task.id, inputs.code)
            return Outcome(failure=inputs)
        count = _picture_count(task)
        self._account.give_back(task.credits_reserved * (task.n - count) / task.n)
        _log.info("task %s completed with %d pictures", task.id, count)
        return Outcome(urls=tuple(self._offer(task, inputs, index=i) for i in range(count)))

    async def _collect(self, task: SandboxTask) -> Inputs | Failure:
        async def fetch(url: str, limit: int) -> bytes:
            return await self._fetcher.fetch(url, base_url=task.base_url, limit=limit)

        return await collect_inputs(task.request, spec=self._spec(task), fetch=fetch)

    def _offer(self, task: SandboxTask, inputs: Inputs, *, index: int) -> str:
        form = picture_type(task.request, self._spec(task))
        ending = "jpg" if form == "jpeg" else form
        path = f"/files/results/{task.folder}/{index + 1}.{ending}"
        flags = task.faults.flags
        lives = 0 if "expired" in flags else LINK_SECONDS
        draw = partial(self._draw, task, inputs, index=index)
        make, kind = (
            (lambda: _PAGE, "text/html") if "not-an-image" in flags else (draw, f"image/{form}")
        )
        self._files.put(path, make, media_type=kind, expires=task.ends + lives)
        return task.base_url + path

    def _draw(self, task: SandboxTask, inputs: Inputs, *, index: int) -> bytes:
        spec = self._spec(task)
        width, height = picture_size(task.request, spec)
        mask = inputs.mask
        if mask is not None and spec.mask_url is not None and spec.mask_url.alpha:
            mask = white_where_clear(mask)
        drawn = draw_picture(
            without_markers(task.request.prompt),
            width=width,
            height=height,
            index=index,
            references=inputs.references,
            mask=mask,
        )
        picture = as_type(drawn, picture_type(task.request, spec))
        return picture[: len(picture) // 2] if "truncated" in task.faults.flags else picture

    def _spec(self, task: SandboxTask) -> ModelSpec:
        return self._models[task.request.model]


def _forced_failure(faults: Faults) -> Failure | None:
    if "orders" in faults.flags:
        return ordering_failure(faults.fail)
    return named_failure(faults.fail) if faults.fail else None


def _picture_count(task: SandboxTask) -> int:
    if "empty" in task.faults.flags:
        return 0
    partial_count = task.faults.partial
    return task.n if partial_count is None else min(task.n, partial_count)
