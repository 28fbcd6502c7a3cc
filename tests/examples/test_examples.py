"""The programs that people copy do what they say."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from PIL import Image
from pydantic_ai import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from evolink_mcp.sandbox import Sandbox, serve
from examples.agent import illustrate

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
async def environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[pytest.MonkeyPatch]:
    async with serve(Sandbox(speed=100)) as url:
        monkeypatch.setenv("EVOLINK_BASE_URL", url)
        monkeypatch.setenv("EVOLINK_API_KEY", "sk-sandbox")
        monkeypatch.setenv("EVOLINK_OUTPUT_DIR", str(tmp_path))
        monkeypatch.setenv("EVOLINK_DATA_DIR", str(tmp_path / "data"))
        yield monkeypatch


@pytest.mark.usefixtures("environment")
async def test_the_python_example_prints_progress_and_the_path(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        run = await anyio.run_process(
            [sys.executable, str(EXAMPLES / "picture.py"), "a", "red", "fox"], stderr=None
        )
    [picture] = tmp_path.glob("*.png")
    printed = run.stdout.decode()
    assert "pending, 0 %" in printed
    assert str(picture) in printed
    assert await anyio.to_thread.run_sync(size_of, picture) == (1536, 1024)


@pytest.mark.usefixtures("environment")
async def test_the_agent_example_lets_a_model_make_a_picture(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        said = await illustrate("Draw a red fox", model=FunctionModel(scripted))
    [picture] = tmp_path.glob("*.png")
    assert str(picture) in said


async def scripted(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Call the tool, then repeat what it answered: a model's part, without a model."""
    assert {tool.name for tool in info.function_tools} == {
        *("generate_image", "get_task", "list_tasks", "list_models", "get_credits")
    }
    returned = [
        part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)
    ]
    if not returned:
        return ModelResponse([ToolCallPart("generate_image", {"prompt": "a red fox"})])
    return ModelResponse([TextPart(str(returned[0].content))])


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size
