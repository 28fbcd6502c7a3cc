"""The paths of the sandbox, as thin as they can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from evolink_mcp.sandbox import answers, faults
from evolink_mcp.sandbox.broken import submit_response
from evolink_mcp.sandbox.files import FileDenied
from evolink_mcp.sandbox.keys import carries_key
from evolink_mcp.sandbox.provider import MODELS, Provider
from evolink_mcp.sandbox.refusals import SUBMIT_REASONS, Refused
from evolink_mcp.sandbox.submission import read_submission
from evolink_mcp.sandbox.tasks import SandboxTask
from evolink_mcp.sandbox.upload_calls import UploadCalls
from evolink_mcp.sandbox.uploads import UploadRefused

Endpoint = Callable[[Request], Awaitable[Response]]

SUBMIT_PATH = "/v1/images/generations"
QUERY_PATH = "/v1/tasks"
CREDITS_PATH = "/v1/credits"
MODELS_PATH = "/v1/models"
UPLOADS_PATH = "/api/v1/files"
FILES_PATH = "/files"

_WELCOME = """EvoLink sandbox

An imitation of EvoLink's image API on this machine. It draws pictures from prompts by
itself, costs nothing and asks nobody. Give this address to a client as the base URL, also
as that of the Files API, and send the key with every call:

    Authorization: Bearer {key}

POST {submit}        buys a task
GET  {query}/TASK_ID   says how it is
GET  {credits}        tells the balance
GET  {models}         lists the models that the key may use

POST {uploads}/upload/stream, /upload/base64 and /upload/url   take a picture
GET  {uploads}/quota and /list   tell what is stored
DELETE {uploads}/FILE_ID   deletes a picture

Pictures for trying edits: {files}/samples/photo.png, photo.jpg and mask.png

{faults}"""


class Routes:
    """Answers requests.

    `check_callback` raises where no callback could be sent; `announce` is told of every new task.
    `allowed` are the models that the key may use; None means every one.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        key: str,
        allowed: frozenset[str] | None,
        uploads: UploadCalls,
        check_callback: Callable[[], None],
        announce: Callable[[SandboxTask], None],
    ) -> None:
        """Sell to whoever shows `key`."""
        self._provider = provider
        self._key = key
        self._allowed = allowed
        self._uploads = uploads
        self._check_callback = check_callback
        self._announce = announce

    def list(self) -> list[Route]:
        """Return the routes of the application."""
        uploads = self._uploads
        return [
            Route("/", self._welcome),
            Route(SUBMIT_PATH, _refusing(self._submit), methods=["POST"]),
            Route(QUERY_PATH + "/{task_id:path}", _refusing(self._query)),
            Route(CREDITS_PATH, _refusing(self._credits)),
            Route(MODELS_PATH, _refusing(self._models)),
            Route(f"{UPLOADS_PATH}/upload/stream", _refusing(uploads.stream), methods=["POST"]),
            Route(f"{UPLOADS_PATH}/upload/base64", _refusing(uploads.base64), methods=["POST"]),
            Route(f"{UPLOADS_PATH}/upload/url", _refusing(uploads.url), methods=["POST"]),
            Route(f"{UPLOADS_PATH}/quota", _refusing(uploads.quota)),
            Route(f"{UPLOADS_PATH}/list", _refusing(uploads.list)),
            Route(f"{UPLOADS_PATH}/{{file_id}}", _refusing(uploads.delete), methods=["DELETE"]),
            Route(FILES_PATH + "/{path:path}", _refusing(self._file)),
        ]

    async def _welcome(self, _: Request) -> Response:
        page = _WELCOME.format(
            key=self._key,
            submit=SUBMIT_PATH,
            query=QUERY_PATH,
            credits=CREDITS_PATH,
            models=MODELS_PATH,
            uploads=UPLOADS_PATH,
            files=FILES_PATH,
            faults=faults.__doc__,
        )
        return PlainTextResponse(page)

    async def _submit(self, request: Request) -> Response:
        self._check_key(request)
        wanted = await read_submission(request, MODELS)
        self._check_model(wanted.model)
        if wanted.callback_url is not None:
            self._check_callback()
        task = await self._provider.buy(
            wanted,
            base_url=str(request.base_url).rstrip("/"),
            idempotency_key=request.headers.get("idempotency-key"),
        )
        self._announce(task)
        return submit_response(answers.submitted(task), task.faults)

    async def _query(self, request: Request) -> Response:
        self._check_key(request)
        return JSONResponse(await self._provider.query(request.path_params["task_id"]))

    async def _credits(self, request: Request) -> Response:
        self._check_key(request)
        return JSONResponse(await self._provider.balance())

    async def _models(self, request: Request) -> Response:
        self._check_key(request)
        usable = MODELS if self._allowed is None else MODELS.keys() & self._allowed
        return JSONResponse(answers.models(sorted(usable)))

    async def _file(self, request: Request) -> Response:
        path = f"{FILES_PATH}/{request.path_params['path']}"
        found = await self._provider.files.read(path)
        return Response(found.content, media_type=found.media_type)

    def _check_key(self, request: Request) -> None:
        if not carries_key(request, self._key):
            raise Refused(status=401, reason=SUBMIT_REASONS[401])

    def _check_model(self, model: str) -> None:
        if self._allowed is not None and model not in self._allowed:
            allowed = {"param": "model", "allowed_models": sorted(self._allowed)}
            raise Refused(status=403, reason=SUBMIT_REASONS[403], extra=allowed)


class CountedRequests:
    """Counts what arrives, by method and path without ids and file names, before it is answered.

    The calls of the Files API count as one path.
    """

    def __init__(self, app: ASGIApp, counter: Counter[str]) -> None:
        """Count into `counter`."""
        self._app = app
        self._counter = counter

    async def __call__(  # noqa: PLR0917 - ASGI's signature
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Count and pass on."""
        if scope["type"] == "http":
            self._counter[f"{scope['method']} {_counted_path(scope['path'])}"] += 1
        await self._app(scope, receive, send)


def _counted_path(path: str) -> str:
    for prefix in (QUERY_PATH, FILES_PATH, UPLOADS_PATH):
        if path.startswith(f"{prefix}/"):
            return prefix
    return path


def _refusing(endpoint: Endpoint) -> Endpoint:
    """Turn the refusals of an endpoint into answers."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (Refused, FileDenied, UploadRefused) as refusal:
            return refusal.answer()
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it

    return answer
