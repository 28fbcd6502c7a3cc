"""The calls of the Files API: from a request to an upload, and to the documented answer."""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final, cast
from urllib.parse import unquote

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from evolink_mcp.sandbox import answers, uploads
from evolink_mcp.sandbox.fetching import Fetcher, Unfetched
from evolink_mcp.sandbox.keys import carries_key
from evolink_mcp.sandbox.uploads import SOURCE_FAILED, UploadRefused, Uploads

LARGEST_PAGE: Final = 100
"""Files on one page of the list (vendor client)."""

_MARGIN = 1024 * 1024
"""Bytes that a request may have besides its file."""

_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_WEB = re.compile(r"https?://", re.IGNORECASE)
_COUNTING_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class UploadCalls:
    """Answers the requests of whoever shows `key`.

    Bodies, codes and fields: EvoLink docs, "File Series"; list and delete: vendor client.
    """

    def __init__(self, stored: Uploads, fetcher: Fetcher, *, key: str) -> None:
        """Put files into `stored`, and get those that are at an address through `fetcher`."""
        self._uploads = stored
        self._fetcher = fetcher
        self._key = key

    async def stream(self, request: Request) -> Response:
        """Take the `file` of a form."""
        self._check_key(request)
        async with _form_of(request) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise UploadRefused(400, "The form has no file named file.")
            name = file.filename or ""
            return self._store(request, await file.read(), fields=form, original_name=name)

    async def base64(self, request: Request) -> Response:
        """Take a file that is written into JSON, as a data URL or bare."""
        self._check_key(request)
        fields = await _json_of(request, limit=uploads.SIZE_LIMIT * 4 // 3 + _MARGIN)
        content = _decoded(_word(fields, "base64_data"))
        return self._store(request, content, fields=fields, original_name="")

    async def url(self, request: Request) -> Response:
        """Fetch a file from a public address, or from the sandbox's own file host."""
        self._check_key(request)
        fields = await _json_of(request, limit=_MARGIN)
        url, here = _word(fields, "file_url"), str(request.base_url)
        if not _WEB.match(url):
            raise UploadRefused(400, "file_url has to be an http or https address.")
        try:
            content = await self._fetcher.fetch(url, base_url=here, limit=uploads.SIZE_LIMIT)
        except Unfetched as reason:
            raise UploadRefused(SOURCE_FAILED, f"Cannot get the file: {reason}.") from None
        name = unquote(url.partition("?")[0])
        return self._store(request, content, fields=fields, original_name=name)

    async def quota(self, request: Request) -> Response:
        """Tell how many files are stored, and how many may be."""
        self._check_key(request)
        return JSONResponse(answers.file_quota(self._uploads))

    async def list(self, request: Request) -> Response:
        """List what is stored, a page at a time."""
        self._check_key(request)
        page = _number(request, "page", default=1, most=10**9)
        size = _number(request, "pageSize", default=20, most=LARGEST_PAGE)
        return JSONResponse(answers.file_list(self._uploads.list(), page=page, size=size))

    async def delete(self, request: Request) -> Response:
        """Delete a file by its id."""
        self._check_key(request)
        file_id = str(request.path_params["file_id"])
        self._uploads.delete(file_id)
        return JSONResponse(answers.file_deleted(file_id))

    def _check_key(self, request: Request) -> None:
        if not carries_key(request, self._key):
            raise UploadRefused(401, "The API key is missing or not valid.")

    def _store(
        self,
        request: Request,
        content: bytes,
        *,
        fields: Mapping[str, object],
        original_name: str,
    ) -> Response:
        upload = self._uploads.store(
            content,
            original_name=original_name,
            name=_word(fields, "file_name", "fileName"),
            folder=_word(fields, "upload_path", "uploadPath"),
        )
        return JSONResponse(answers.uploaded(upload, base_url=str(request.base_url)))


@asynccontextmanager
async def _form_of(request: Request) -> AsyncGenerator[FormData]:
    """Read a form with one file, and put the file away at the end.

    Raises:
        UploadRefused: It is no such form, or too large.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UploadRefused(400, "The body has to be multipart/form-data.")
    chunks = _limited(request, limit=uploads.SIZE_LIMIT + _MARGIN)
    try:
        form = await MultiPartParser(request.headers, chunks, max_files=1).parse()
    except MultiPartException as problem:
        raise UploadRefused(400, problem.message) from None
    try:
        yield form
    finally:
        await form.close()


async def _json_of(request: Request, *, limit: int) -> Mapping[str, object]:
    content = b"".join([chunk async for chunk in _limited(request, limit=limit)])
    try:
        body: object = json.loads(content)
    except (ValueError, RecursionError):
        raise UploadRefused(400, "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise UploadRefused(400, "The body has to be a JSON object.")
    return cast("dict[str, object]", body)


async def _limited(request: Request, *, limit: int) -> AsyncGenerator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise uploads.too_large()
        yield chunk


def _decoded(text: str) -> bytes:
    try:
        return b64decode(_DATA_URL.sub("", text, count=1), validate=True)
    except (binascii.Error, ValueError):
        raise UploadRefused(400, "base64_data is not base64.") from None


def _word(fields: Mapping[str, object], *names: str) -> str:
    """Return the text of the first of these fields that holds one; empty for anything else."""
    found = (value for name in names if isinstance(value := fields.get(name), str))
    return next(found, "").encode("utf-8", "replace").decode()


def _number(request: Request, name: str, *, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not _COUNTING_NUMBER.fullmatch(text) or int(text) > most:
        raise UploadRefused(400, f"{name} has to be a number from 1 to {most}.")
    return int(text)
