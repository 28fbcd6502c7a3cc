"""What the Dockerfile makes, without an engine; `make image` takes its steps."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2 as httpx
import pytest
from anyio import to_thread
from anyio.abc import Process
from mcp import Client

from evolink_mcp.server.answers import ImageAnswer
from tests.image.steps import Image, contained, read_steps
from tests.servers import Messages, answer_of, text_of
from tests.service.rooms import call, host_at

ROOT = Path(__file__).parents[2]
STEPS = read_steps((ROOT / "Dockerfile").read_text())
COMPOSE = (ROOT / "compose.yaml").read_text()

SERVICE, SANDBOX = "8080", "8787"
"""Ports of the two containers, which share a network."""

SECRET = "run/secrets/tokens"
"""Where compose puts the file of tokens, below the root."""

START_SECONDS = 30
STOP_SECONDS = 10


def test_its_base_is_pinned_and_nobody_is_root() -> None:
    bases = [step.words[0] for step in STEPS if step.instruction == "FROM"]
    assert set(bases) == {"python:3.13-slim"}
    [user] = [step.rest for step in STEPS if step.instruction == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_every_package_comes_with_its_hash_and_no_command_needs_a_shell() -> None:
    installs = [step.words for step in STEPS if "install" in step.rest]
    assert installs
    for words in installs:
        assert "--require-hashes" in words or {"--no-deps", "--no-build-isolation"} <= {*words}


def test_a_container_of_compose_may_write_to_no_more_than_it_must() -> None:
    services = re.findall(r"^  [\w-]+:\n    <<: \*contained\n", COMPOSE, flags=re.MULTILINE)
    assert len(services) == COMPOSE.count("image: evolink-mcp") + 1 == 2
    for line in ("read_only: true", "cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]'):
        assert f"  {line}\n" in COMPOSE


@dataclass
class Container:
    """What runs from an image, without an engine."""

    image: Image
    log: Path
    env: dict[str, str] = field(default_factory=dict[str, str])

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            contained(self.image.command([*self.image.entrypoint, *words])),
            env=self.image.environment(**self.env),
            capture_output=True,
            text=True,
            check=True,
        )

    @asynccontextmanager
    async def started(self, *words: str) -> AsyncGenerator[Process]:
        """Run it while the block does; it has to listen to SIGTERM."""
        command = contained(self.image.command([*self.image.entrypoint, *words]))
        env = self.image.environment(**self.env)
        with self.log.open("ab") as log:
            async with await anyio.open_process(command, env=env, stderr=log) as process:
                try:
                    yield process
                finally:
                    if process.returncode is None:
                        process.terminate()
                    with anyio.fail_after(STOP_SECONDS, shield=True):
                        await process.wait()

    async def is_healthy(self) -> bool:
        """Ask as an engine does."""
        command = self.image.command(self.image.healthcheck)
        run = await anyio.run_process(command, env=self.image.environment(), check=False)
        return run.returncode == 0


@pytest.fixture
def image(tmp_path: Path, free_tcp_port_factory: Callable[[], int]) -> Iterator[Image]:
    place = tmp_path / "i"
    place.mkdir()
    ports = {port: str(free_tcp_port_factory()) for port in (SERVICE, SANDBOX)}
    made = Image(ROOT, place, ports=ports)
    for step in STEPS:
        made.take(step)
    yield made
    made.thaw()


@pytest.mark.image
@pytest.mark.timeout(300)
async def test_what_compose_starts_serves_whoever_has_a_token_and_writes_only_to_its_volume(
    image: Image, tmp_path: Path
) -> None:
    service, sandbox = Container(image, tmp_path / "log"), Container(image, tmp_path / "box.log")
    made = await to_thread.run_sync(service.run, "token", "alice")
    place_secret(image, made.stderr)
    image.freeze()
    before = files_outside(image)
    service.env = environment_of_compose(image)
    here = f"http://127.0.0.1:{image.ports[SERVICE]}"
    async with sandbox.started(*command_of_the_sandbox()), service.started(*image.cmd) as process:
        await get_healthy(service)
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.post(f"{here}/mcp", **call("list_tasks"))).status_code == 401
            async with host_at(f"{here}/mcp", made.stdout.strip()) as host:
                [picture] = await pictures_of(host)
            assert (picture.download_url or "").startswith(here)
            assert (await http.get(picture.download_url or "")).is_success
        process.terminate()
        with anyio.fail_after(STOP_SECONDS):
            assert await process.wait() == 0
        assert not await service.is_healthy()
    assert len(list((image.root / "data" / "pictures").glob("*.png"))) == 1
    assert files_outside(image) == before


def place_secret(image: Image, text: str) -> None:
    """Mount the file of tokens as compose does: as it is, where it says."""
    path = image.root / SECRET
    path.parent.mkdir(parents=True)
    path.write_text(text)


def environment_of_compose(image: Image) -> dict[str, str]:
    """Read what compose.yaml sets for the service, where nothing is set outside."""
    pattern = r"^ {6}(EVOLINK_\w+): (?:\$\{\w+:-(.*)\}|(.*))$"
    found = re.findall(pattern, COMPOSE, flags=re.MULTILINE)
    return {name: image.led(default or plain) for name, default, plain in found}


def command_of_the_sandbox() -> list[str]:
    [found] = re.findall(r"^ {4}command: (\[.*\])$", COMPOSE, flags=re.MULTILINE)
    words: list[str] = json.loads(found)
    return words


async def get_healthy(container: Container) -> None:
    with anyio.fail_after(START_SECONDS):
        while not await container.is_healthy():
            pass  # each look takes the time that a Python takes to start


async def pictures_of(host: Client) -> Sequence[ImageAnswer]:
    """Ask for a picture, and see that it is told how that goes."""
    messages = Messages()
    call = {"prompt": "a fox"}
    result = await host.call_tool("generate_image", call, progress_callback=messages)
    assert answer_of(result).status == "completed", text_of(result)
    assert messages.seen
    return answer_of(result).images or ()


def files_outside(image: Image) -> set[Path]:
    """Return what lies outside of the volumes."""
    volumes = [image.root / volume.lstrip("/") for volume in image.volumes]
    found = image.root.rglob("*")
    return {path for path in found if not any(path.is_relative_to(each) for each in volumes)}
