"""One call, one picture: what `generate_image` answers when all goes well."""

from __future__ import annotations

import base64
import json
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from dirty_equals import IsDatetime, IsPositive, IsStr
from jsonschema import validate
from mcp import Client
from mcp.types import CallToolResult, ImageContent
from PIL import Image

from evolink_mcp.jobs.job import Job, JobId, Picture, Watch
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.results import Call, finished
from tests.servers import Era, Messages, answer_of, host_of, settings_for, text_of

KEPT_ROOM = 1_048_576
"""Bytes of a whole answer that the strictest hosts take."""


async def test_a_prompt_goes_in_and_a_picture_is_on_disk(host: Client, tmp_path: Path) -> None:
    result = await host.call_tool("generate_image", {"prompt": "a red fox", "size": "3:2"})
    [path] = tmp_path.glob("*.png")
    assert not result.is_error
    assert result.structured_content == {
        "status": "completed",
        "task_id": IsStr(regex=r"task-unified-\d+-\w{8}"),
        "model": "gpt-4o-image",
        "progress": 100,
        "seconds": IsPositive() | 0.0,
        "images": [
            {
                "n": 1,
                "handle": IsStr(regex=r"evolink://tasks/task-unified-\d+-\w{8}/images/1"),
                "url": IsStr(regex=r"https://sandbox\.test/files/results/\w+/1\.png"),
                "url_expires_at": IsDatetime(iso_string=True),
                "path": str(path),
                "media_type": "image/png",
                "width": 1536,
                "height": 1024,
                "bytes": path.stat().st_size,
            }
        ],
        "credits_reserved": 2.5,
    }
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (1536, 1024))


async def test_every_fact_is_in_the_text_too(host: Client) -> None:
    result = await host.call_tool("generate_image", {"prompt": "a red fox", "n": 2})
    text, answer = text_of(result), answer_of(result)
    assert answer.images is not None
    facts: list[object] = [answer.task_id, answer.model, f"{answer.credits_reserved:g} credits"]
    for image in answer.images:
        facts += [
            image.handle,
            image.path,
            image.url,
            image.url_expires_at,
            f"{image.width}x{image.height}",
        ]
        facts += [image.media_type, image.bytes]
    assert [fact for fact in facts if str(fact) not in text] == []


@pytest.mark.parametrize("n", [1, 2, 4])
async def test_each_picture_has_a_small_preview(host: Client, n: int) -> None:
    result = await host.call_tool("generate_image", {"prompt": "a red fox", "n": n})
    previews = previews_of(result)
    assert [image.format for image in previews] == ["WEBP"] * n
    assert all(max(image.size) <= 1024 for image in previews)
    assert len(result.model_dump_json()) < KEPT_ROOM


async def test_a_preview_shows_the_picture(host: Client, tmp_path: Path) -> None:
    result = await host.call_tool("generate_image", {"prompt": "a red fox", "size": "2:3"})
    [preview] = previews_of(result)
    [path] = tmp_path.glob("*.png")
    with Image.open(path) as picture:
        small = picture.convert("RGB").resize((16, 24))
    difference = zip(small.tobytes(), preview.resize((16, 24)).tobytes(), strict=True)
    assert max(abs(a - b) for a, b in difference) < 32


@pytest.mark.parametrize(("setting", "types"), [("none", []), ("full", ["PNG"])])
async def test_the_operator_says_what_is_shown(
    sandbox: Sandbox, tmp_path: Path, setting: str, types: list[str]
) -> None:
    settings = settings_for(tmp_path, preview=setting)
    async with host_of(sandbox, settings) as host:
        result = await host.call_tool("generate_image", {"prompt": "a red fox"})
        assert [image.format for image in previews_of(result)] == types


def test_a_picture_that_vanished_goes_without_a_preview(tmp_path: Path) -> None:
    picture = Picture(n=1, url="https://example.com/1", expires_at=None, path=tmp_path / "gone")
    watch = Watch(Job(id=JobId("run_1"), pictures=(picture,)), started=0)
    answer = partial(finished, watch, Call(1), preview="preview")
    assert [block.type for block in anyio.run(answer).content] == ["text", "resource_link"]


@pytest.mark.usefixtures("smooth_pictures")
async def test_a_full_picture_that_is_too_large_is_reduced(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    async with host_of(sandbox, settings_for(tmp_path, preview="full")) as host:
        result = await host.call_tool("generate_image", {"prompt": "a red fox", "n": 4})
    assert {image.format for image in previews_of(result)} == {"WEBP"}


async def test_the_structured_answer_keeps_its_schema_whatever_happens(host: Client) -> None:
    [schema, *_] = [tool.output_schema for tool in (await host.list_tools()).tools]
    assert schema is not None
    for prompt in ("a fox", "", "[fail:service_error]", "[http:402]", "[garbage]", "[empty]"):
        result = await host.call_tool("generate_image", {"prompt": prompt})
        validate(result.structured_content, schema)
        assert "base64" not in json.dumps(result.structured_content)


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": "2"},
        {"n": 2.0},
        {"n": 2, "size": None, "mask_url": None, "callback_url": None, "wait_seconds": None},
        {"n": 2, "image_urls": "[]"},
        {"n": 2, "wait_seconds": "30"},
        {"n": 2, "model": "gpt-4o-image"},
    ],
)
async def test_hosts_that_send_odd_types_are_served(
    host: Client, sandbox: Sandbox, arguments: dict[str, Any]
) -> None:
    result = await host.call_tool("generate_image", {"prompt": "a red fox", **arguments})
    assert not result.is_error
    [task] = sandbox.tasks.values()
    assert len(answer_of(result).images or []) == 2
    assert task.idempotency_key


async def test_a_list_in_a_string_is_read(host: Client, sandbox: Sandbox) -> None:
    photo = "https://sandbox.test/files/samples/photo.png"
    arguments = {"prompt": "make it a watercolour", "image_urls": json.dumps([photo])}
    result = await host.call_tool("generate_image", arguments)
    assert not result.is_error
    assert sandbox.requests["GET /files"] >= 2


async def test_an_earlier_picture_is_edited_by_its_address(host: Client) -> None:
    first = await host.call_tool("generate_image", {"prompt": "a red fox"})
    [image] = answer_of(first).images or []
    arguments = {"prompt": "now with rain", "image_urls": [image.url]}
    second = await host.call_tool("generate_image", arguments)
    assert not second.is_error
    assert answer_of(second).task_id != answer_of(first).task_id


async def test_a_mask_goes_with_its_image(host: Client) -> None:
    arguments = {
        "prompt": "a lighthouse",
        "image_urls": ["https://sandbox.test/files/samples/photo.png"],
        "mask_url": "https://sandbox.test/files/samples/mask.png",
    }
    result = await host.call_tool("generate_image", arguments)
    assert not result.is_error


async def test_a_delivered_answer_is_never_used_again(host: Client, sandbox: Sandbox) -> None:
    for _ in range(2):
        await host.call_tool("generate_image", {"prompt": "a red fox"})
    assert len(sandbox.tasks) == 2


async def test_fewer_pictures_than_asked_for_are_said_to_be_fewer(host: Client) -> None:
    result = await host.call_tool("generate_image", {"prompt": "[partial:1] a fox", "n": 4})
    assert len(answer_of(result).images or []) == 1
    assert "EvoLink made 1 of 4 pictures; it charges for those it made." in text_of(result)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("[not-an-image]", "it is no picture (type: html)"),
        ("[truncated]", "it is cut off or broken"),
        ("[expired]", "its link has expired"),
    ],
)
async def test_a_picture_that_cannot_be_fetched_is_reported_with_its_address(
    host: Client, tmp_path: Path, fault: str, problem: str
) -> None:
    result = await host.call_tool("generate_image", {"prompt": f"{fault} a fox"})
    [image] = answer_of(result).images or []
    assert not result.is_error
    assert image.path is None
    assert problem in (image.problem or "")
    assert f"NOT SAVED: {image.problem}" in text_of(result)
    assert image.url in text_of(result)
    assert "call get_task with this task id again" in text_of(result)
    assert all(".damaged." in file.name for file in tmp_path.iterdir())


async def test_many_hosts_at_once_get_their_own_pictures(sandbox: Sandbox, tmp_path: Path) -> None:
    paths: list[str] = []
    async with host_of(sandbox, settings_for(tmp_path)) as host:

        async def one(number: int) -> None:
            arguments = {"prompt": f"fox number {number}"}
            answer = answer_of(await host.call_tool("generate_image", arguments))
            paths.extend(image.path or "" for image in answer.images or [])

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(12):
                    group.start_soon(one, number)
    assert len(set(paths)) == 12 == len(sandbox.tasks)


async def test_progress_reaches_the_host(sandbox: Sandbox, tmp_path: Path, era: Era) -> None:
    messages = Messages()
    async with host_of(sandbox, settings_for(tmp_path), era=era) as host:
        result = await host.call_tool(
            "generate_image", {"prompt": "a fox"}, progress_callback=messages
        )
    assert messages.seen[0][2].startswith(f"{answer_of(result).task_id}: pending")


def previews_of(result: CallToolResult) -> list[Image.Image]:
    blocks = [block for block in result.content if isinstance(block, ImageContent)]
    pictures: list[Image.Image] = [
        Image.open(BytesIO(base64.b64decode(block.data))) for block in blocks
    ]
    assert [block.mime_type for block in blocks] == [
        f"image/{str(picture.format).lower()}" for picture in pictures
    ]
    return pictures
