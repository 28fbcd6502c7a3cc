"""A prompt for people, the page of each model, and completions for both."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from evolink_mcp.catalog.models import Catalogue
from evolink_mcp.catalog.summary import summary
from evolink_mcp.errors import InvalidRequest
from evolink_mcp.server.app import App
from evolink_mcp.server.models import complete_argument

MODEL_URI = "evolink://models/{model}"

_DRAW = "Call generate_image with exactly these arguments, then tell me the {} of the picture: {}"


def offer_prompts(server: MCPServer[App], catalogue: Catalogue, *, remote: bool = False) -> None:
    """Offer a prompt that draws, and what each enabled model takes as a resource."""
    place = "download link" if remote else "path"

    async def draw(prompt: str, model: str = "", size: str = "") -> str:  # noqa: PLR0917 - the SDK names arguments
        asked = {"prompt": prompt, "model": model, "size": size}
        given = json.dumps({name: value for name, value in asked.items() if value})
        return _DRAW.format(place, given)

    async def model_page(model: str) -> str:
        try:
            spec = catalogue.find(model)
        except InvalidRequest as error:
            raise ResourceNotFoundError(error.message) from error
        return f"{spec.id} ({spec.title}): {summary(spec)}."

    server.prompt(
        "draw", title="Draw a picture", description="Draws a picture; costs EvoLink credits."
    )(draw)
    server.resource(
        MODEL_URI,
        name="model",
        title="An image model",
        description="What an enabled image model takes.",
        mime_type="text/plain",
    )(model_page)
    server.completion()(_completions(catalogue))  # type: ignore[no-untyped-call]


def _completions(
    catalogue: Catalogue,
) -> Callable[
    [PromptReference | ResourceTemplateReference, CompletionArgument, CompletionContext | None],
    Awaitable[Completion | None],
]:
    async def complete(  # noqa: PLR0917 - the SDK's order
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        if isinstance(ref, ResourceTemplateReference) and ref.uri != MODEL_URI:
            return None
        chosen = (context.arguments or {}).get("model") if context else None
        return complete_argument(catalogue, argument.name, begun=argument.value, model=chosen)

    return complete
