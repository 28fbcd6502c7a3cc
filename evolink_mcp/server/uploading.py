"""`upload_link`: how a reference image gets here, where the caller shares no disk with us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict, Field

from evolink_mcp.catalog.request import unknown_fields
from evolink_mcp.errors import EvolinkError, InvalidRequest
from evolink_mcp.server.answers import Failure
from evolink_mcp.server.app import App
from evolink_mcp.server.principals import current_principal

DESCRIPTION: Final = """\
Get a link through which a picture of the user's reaches this server, to be edited or used as a \
reference or mask. Costs nothing. Send the bytes there with an HTTP PUT, or give the link to the \
user, who can open it in a browser and choose a file. Then pass the handle of this answer in \
image_urls or mask_url of generate_image. Each link takes one picture, within 15 minutes."""

SCHEMA: Final[Mapping[str, object]] = {"type": "object", "properties": {}}


class UploadAnswer(BaseModel):
    """What `upload_link` answers."""

    model_config = ConfigDict(frozen=True)

    upload_url: str | None = Field(
        default=None, description="Where to PUT the bytes of one picture, or to choose a file."
    )
    handle: str | None = Field(
        default=None, description="What stands for the picture in image_urls and mask_url."
    )
    expires_at: str | None = Field(default=None, description="When the link ends (UTC).")
    error: Failure | None = Field(default=None, description="Why there is none.")


async def upload_link(arguments: Mapping[str, object], ctx: Context[App]) -> CallToolResult:
    """Make a link for a picture of the caller's."""
    app = ctx.request_context.lifespan_context
    if problems := unknown_fields(arguments, ()):
        return _refused(InvalidRequest(problems=problems))
    if app.upload_links is None:
        return _refused(_nowhere())
    link = app.upload_links.make(current_principal())
    ends = f"{link.expires_at:%Y-%m-%d %H:%M} UTC"
    text = (
        f"Upload link, for one picture, until {ends}: {link.url}\n"
        f'Send the file: curl -T picture.png "{link.url}" (or open the link in a browser).\n'
        f'Then use it: generate_image with image_urls: ["{link.handle}"]. It is kept for 72 hours.'
    )
    answer = UploadAnswer(
        upload_url=link.url, handle=link.handle, expires_at=link.expires_at.isoformat()
    )
    return _result(text, answer)


def _refused(error: EvolinkError) -> CallToolResult:
    text = f"{error.message} Next step: {error.next_step}"
    return _result(text, UploadAnswer(error=Failure.of(error)), is_error=True)


def _result(text: str, answer: UploadAnswer, *, is_error: bool = False) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=answer.model_dump(exclude_none=True),
        is_error=is_error,
    )


def _nowhere() -> EvolinkError:
    return EvolinkError(
        code="no_uploads",
        message="This server takes no pictures.",
        next_step="Use a public https address, or the handle of an earlier picture.",
    )
