"""Jobs and pictures as resources, and news of them in both eras."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.shared.subscriptions import ResourceUpdated
from mcp.types import BlobResourceContents, ResourceUpdatedNotification, TextResourceContents

from evolink_mcp.jobs.database import FILE_NAME
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.build import build_server
from tests.servers import answer_of, host_of, network_of, settings_for

UNKNOWN = "task-unified-1-nothing"


async def read_json(host: Client, uri: str) -> dict[str, Any]:
    [content] = (await host.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    assert content.mime_type == "application/json"
    read: dict[str, Any] = json.loads(content.text)
    return read


async def test_what_there_is_to_read_is_listed(host: Client) -> None:
    resources = (await host.list_resources()).resources
    assert [str(resource.uri) for resource in resources] == ["evolink://tasks"]
    templates = (await host.list_resource_templates()).resource_templates
    assert [template.uri_template for template in templates] == [
        "evolink://tasks/{task_id}",
        "evolink://tasks/{task_id}/images/{n}",
        "evolink://models/{model}",
    ]


async def test_the_list_is_that_of_the_tool(host: Client) -> None:
    await host.call_tool("generate_image", {"prompt": "a fox"})
    told = await host.call_tool("list_tasks", {})
    assert await read_json(host, "evolink://tasks") == told.structured_content


async def test_a_task_is_what_get_task_says_of_it(host: Client) -> None:
    await host.call_tool("generate_image", {"prompt": "a fox", "n": 2})
    [entry] = (await read_json(host, "evolink://tasks"))["tasks"]
    told = (await host.call_tool("get_task", {"task_id": entry["task_id"]})).structured_content
    assert told is not None
    del told["seconds"]
    assert await read_json(host, f"evolink://tasks/{entry['task_id']}") == told


@pytest.mark.parametrize(
    ("prompt", "status"),
    [
        ("[fail:service_error]", "failed"),
        ("[truncated]", "completed"),
        ("[empty]", "processing"),
    ],
)
async def test_a_task_that_came_to_no_picture_is_told(
    host: Client, prompt: str, status: str
) -> None:
    task_id = answer_of(await host.call_tool("generate_image", {"prompt": prompt})).task_id
    assert (await read_json(host, f"evolink://tasks/{task_id}"))["status"] == status


@pytest.mark.parametrize("position", [0, 1])
async def test_the_handle_of_a_picture_leads_to_all_its_bytes(host: Client, position: int) -> None:
    result = await host.call_tool("generate_image", {"prompt": "a fox", "n": 2})
    image = (answer_of(result).images or [])[position]
    links = [block for block in result.content if block.type == "resource_link"]
    assert [str(link.uri) for link in links][position] == image.handle
    [content] = (await host.read_resource(image.handle)).contents
    assert isinstance(content, BlobResourceContents)
    assert content.mime_type == "image/png"
    assert base64.b64decode(content.blob) == Path(str(image.path)).read_bytes()


@pytest.mark.parametrize(
    "uri",
    [
        f"evolink://tasks/{UNKNOWN}",
        f"evolink://tasks/{UNKNOWN}/images/1",
        "evolink://tasks/..%2F..%2Fetc/images/1",
        "evolink://tasks/passwd",
        "evolink://elsewhere",
    ],
)
async def test_what_is_not_there_is_said_to_be_unknown(host: Client, uri: str) -> None:
    with pytest.raises(MCPError):
        await host.read_resource(uri)


@pytest.mark.parametrize("n", ["0", "2", "01", "x"])
async def test_a_picture_that_is_not_there_names_the_way_to_it(host: Client, n: str) -> None:
    answer = answer_of(await host.call_tool("generate_image", {"prompt": "a fox"}))
    with pytest.raises(MCPError, match="call get_task with this task id"):
        await host.read_resource(f"evolink://tasks/{answer.task_id}/images/{n}")


async def test_a_picture_that_was_deleted_names_the_way_to_it(host: Client) -> None:
    answer = answer_of(await host.call_tool("generate_image", {"prompt": "a fox"}))
    [image] = answer.images or []
    Path(str(image.path)).unlink()
    with pytest.raises(MCPError, match="call get_task with this task id"):
        await host.read_resource(image.handle)


@pytest.mark.parametrize("uri", ["evolink://tasks", f"evolink://tasks/{UNKNOWN}"])
async def test_a_damaged_record_is_told(sandbox: Sandbox, tmp_path: Path, uri: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    async with host_of(sandbox, settings_for(tmp_path, data_dir=tmp_path)) as host:
        with pytest.raises(MCPError, match="it is damaged"):
            await host.read_resource(uri)


async def test_who_listens_hears_of_each_move_of_a_job(host_2026: Client) -> None:
    async with host_2026.listen(resource_subscriptions=["evolink://tasks"]) as events:
        await host_2026.call_tool("generate_image", {"prompt": "a fox"})
        with anyio.fail_after(10):
            assert await anext(events) == ResourceUpdated(uri="evolink://tasks")


@pytest.mark.filterwarnings("ignore:resources/:mcp.MCPDeprecationWarning")
async def test_who_subscribed_hears_of_each_move_of_a_job(sandbox: Sandbox, tmp_path: Path) -> None:
    heard: list[str] = []

    async def hear(message: object) -> None:
        assert isinstance(message, ResourceUpdatedNotification)
        heard.append(str(message.params.uri))

    server = build_server(settings_for(tmp_path), network=network_of(sandbox))
    async with Client(server, mode="legacy", message_handler=hear) as host:
        assert host.server_capabilities is not None
        assert host.server_capabilities.resources is not None
        assert host.server_capabilities.resources.subscribe
        await host.subscribe_resource("evolink://tasks")  # pyright: ignore[reportDeprecated]
        first = answer_of(await host.call_tool("generate_image", {"prompt": "a fox"}))
        assert set(heard) == {"evolink://tasks"}
        await host.unsubscribe_resource("evolink://tasks")  # pyright: ignore[reportDeprecated]
        uri = f"evolink://tasks/{first.task_id}"
        await host.subscribe_resource(uri)  # pyright: ignore[reportDeprecated]
        [image] = first.images or []
        Path(str(image.path)).unlink()
        heard.clear()
        await host.call_tool("get_task", {"task_id": first.task_id})
    assert set(heard) == {uri}


@pytest.fixture
async def host_2026(sandbox: Sandbox, tmp_path: Path) -> Any:  # noqa: ANN401 - a generator
    async with host_of(sandbox, settings_for(tmp_path)) as host:
        yield host
