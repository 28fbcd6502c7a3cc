"""`list_models`, the page of each model, the prompt, and what is completed while a user types."""

from __future__ import annotations

from pathlib import Path

import pytest
from inline_snapshot import snapshot
from mcp import Client, MCPError
from mcp.types import CallToolResult, PromptReference, ResourceTemplateReference, TextContent

from evolink_mcp.errors import SettingInvalid
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.build import build_server
from evolink_mcp.server.models import ModelList
from tests.servers import Era, answer_of, host_of, settings_for, text_of

THREE = ("gpt-4o-image", "krea-2-turbo", "brand-new")


def models_in(result: CallToolResult) -> ModelList:
    return ModelList.model_validate(result.structured_content)


async def test_every_enabled_model_is_listed_with_what_is_known(
    sandbox: Sandbox, tmp_path: Path, era: Era
) -> None:
    settings = settings_for(tmp_path, models=THREE, default_model="krea-2-turbo")
    async with host_of(sandbox, settings, era=era) as host:
        result = await host.call_tool("list_models", {})
        for line, entry in zip(text_of(result).splitlines(), models_in(result).models, strict=True):
            assert line.startswith(f"{entry.id} (")
            assert line.endswith(f"): {entry.takes}.")
        assert [line.partition(":")[0] for line in text_of(result).splitlines()] == snapshot(
            [
                "gpt-4o-image (2.5 credits (docs), not in EvoLink's newest docs)",
                "krea-2-turbo (default, 0.05 credits (docs))",
                "brand-new (price unknown, not in EvoLink's newest docs, this key may NOT use it)",
            ]
        )
        assert result.structured_content == snapshot(
            {
                "models": [
                    {
                        "id": "gpt-4o-image",
                        "title": "GPT-4o Image",
                        "takes": "prompt up to 2000 characters, 2000 tokens; size 1:1, 2:3, "
                        "3:2, 1024x1024, 1024x1536, 1536x1024; n 1, 2 or 4; reference "
                        "images at most 5 (jpeg, jpg, png, webp, 10 MB each); mask png, "
                        "white is drawn anew",
                        "is_default": False,
                        "listed": False,
                        "credits": 2.5,
                        "price_from": "docs",
                        "usable": "yes",
                    },
                    {
                        "id": "krea-2-turbo",
                        "title": "Krea 2 Turbo",
                        "takes": "prompt up to 640 tokens; size 1:1, 4:3, 3:4, 5:4, 4:5, 2:3, "
                        "3:2, 9:16, 16:9, 1:2, 2:1; quality 1K or 2K; makes 1; seed: a "
                        "whole number from 0 to 1048576; nsfw_check: true or false",
                        "is_default": True,
                        "listed": True,
                        "credits": 0.05,
                        "price_from": "docs",
                        "usable": "yes",
                    },
                    {
                        "id": "brand-new",
                        "title": "brand-new",
                        "takes": "not in the table of models: any value passes, and EvoLink "
                        "decides",
                        "is_default": False,
                        "listed": False,
                        "usable": "no",
                    },
                ]
            }
        )


async def test_a_price_is_the_one_that_was_seen_last(sandbox: Sandbox, tmp_path: Path) -> None:
    async with host_of(sandbox, settings_for(tmp_path, models=("mj-v8.2",))) as host:
        before = models_in(await host.call_tool("list_models", {})).models[0]
        assert (before.credits, before.price_from) == (None, None)
        answer = answer_of(await host.call_tool("generate_image", {"prompt": "a fox"}))
        assert len(answer.images or ()) == 4
        after = models_in(await host.call_tool("list_models", {})).models[0]
        assert (after.credits, after.price_from) == (10.0, "last purchase")


async def test_which_models_the_key_may_use_is_told_where_evolink_tells(tmp_path: Path) -> None:
    box = Sandbox(speed=1000, models=frozenset({"gpt-4o-image"}))
    async with host_of(box, settings_for(tmp_path, models=THREE[:2])) as host:
        result = await host.call_tool("list_models", {})
        usable = {entry.id: entry.usable for entry in models_in(result).models}
        assert usable == {"gpt-4o-image": "yes", "krea-2-turbo": "no"}
        assert "krea-2-turbo (0.05 credits (docs), this key may NOT use it)" in text_of(result)


@pytest.mark.parametrize("changes", [{"api_key": None}, {"api_key": "sk-wrong"}])
async def test_without_a_key_that_works_the_rest_is_told(
    sandbox: Sandbox, tmp_path: Path, changes: dict[str, object]
) -> None:
    async with host_of(sandbox, settings_for(tmp_path, **changes)) as host:
        [entry] = models_in(await host.call_tool("list_models", {})).models
        assert (entry.id, entry.usable, entry.credits) == ("gpt-4o-image", "unknown", 2.5)


async def test_without_a_record_the_rest_is_told(sandbox: Sandbox, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("in the way")
    async with host_of(sandbox, settings_for(tmp_path, data_dir=data / "deeper")) as host:
        [entry] = models_in(await host.call_tool("list_models", {})).models
        assert (entry.credits, entry.price_from) == (2.5, "docs")


async def test_arguments_are_refused_by_name(host: Client) -> None:
    result = await host.call_tool("list_models", {"family": "gpt"})
    assert result.is_error
    assert '"family": is not an argument of this tool' in text_of(result)


async def test_another_model_is_bought_by_its_name(sandbox: Sandbox, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, models=("all",))
    async with host_of(sandbox, settings) as host:
        asked = {
            "model": "gpt-image-2",
            "prompt": "a fox",
            "size": "16:9",
            "quality": "low",
            "output_format": "webp",
        }
        answer = answer_of(await host.call_tool("generate_image", asked))
        [image] = answer.images or []
        assert (image.media_type, image.width, image.height) == ("image/webp", 1360, 768)
        [task] = sandbox.tasks.values()
        assert task.request.body() == asked


async def test_a_model_that_the_table_does_not_know_is_passed_on(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    async with host_of(sandbox, settings_for(tmp_path, models=("brand-new",))) as host:
        result = await host.call_tool("generate_image", {"prompt": "a fox", "seed": 3})
        assert result.is_error
        error = answer_of(result).error
        assert error is not None
        assert (error.code, error.charged) == ("access_denied", "no")


def test_a_default_that_is_not_enabled_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="EVOLINK_DEFAULT_MODEL") as raised:
        build_server(settings_for(tmp_path, default_model="mj-v7"))
    assert raised.value.setting == "EVOLINK_DEFAULT_MODEL"


async def test_a_model_has_a_page(sandbox: Sandbox, tmp_path: Path, era: Era) -> None:
    async with host_of(sandbox, settings_for(tmp_path, models=THREE), era=era) as host:
        page = await host.read_resource("evolink://models/krea-2-turbo")
        assert "prompt up to 640 tokens" in str(page.contents[0])
        with pytest.raises(MCPError, match="not enabled here"):
            await host.read_resource("evolink://models/mj-v7")


async def test_a_prompt_asks_for_a_picture(host: Client) -> None:
    found = await host.get_prompt("draw", {"prompt": "a fox", "size": "2:3"})
    [message] = found.messages
    assert isinstance(message.content, TextContent)
    assert '{"prompt": "a fox", "size": "2:3"}' in message.content.text


DRAW = PromptReference(name="draw")
PAGE = ResourceTemplateReference(uri="evolink://models/{model}")
TASK = ResourceTemplateReference(uri="evolink://tasks/{task_id}")


@pytest.mark.parametrize(
    ("ref", "name", "begun", "model", "values"),
    [
        (DRAW, "model", "K", None, ["krea-2-turbo"]),
        (DRAW, "model", "", None, list(THREE)),
        (PAGE, "model", "b", None, ["brand-new"]),
        (DRAW, "size", "1536", None, ["1536x1024"]),
        (DRAW, "size", "9", "krea-2-turbo", ["9:16"]),
        (DRAW, "size", "9", "gpt-4o-image", []),
        (DRAW, "prompt", "a", None, []),
        (TASK, "task_id", "task", None, []),
    ],
)
async def test_models_and_sizes_are_completed(
    sandbox: Sandbox,
    tmp_path: Path,
    era: Era,
    ref: PromptReference | ResourceTemplateReference,
    name: str,
    begun: str,
    model: str | None,
    values: list[str],
) -> None:
    async with host_of(sandbox, settings_for(tmp_path, models=THREE), era=era) as host:
        context = {"model": model} if model else None
        result = await host.complete(ref, {"name": name, "value": begun}, context_arguments=context)
        assert result.completion.values == values
