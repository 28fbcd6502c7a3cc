"""A caller's own `callback_url`: passed on, or refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.settings import CallbackHosts
from tests.servers import answer_of, host_of, settings_for, text_of

HOOK = "https://hooks.example.com/evolink"


@pytest.mark.parametrize(
    "hosts", [CallbackHosts(), CallbackHosts(("hooks.example.com",)), CallbackHosts(("*.com",))]
)
async def test_it_is_passed_on_where_its_host_is_allowed(
    tmp_path: Path, hosts: CallbackHosts
) -> None:
    sandbox, settings = Sandbox(speed=1e6), settings_for(tmp_path, callback_hosts=hosts)
    async with sandbox.running(), host_of(sandbox, settings) as host:
        wanted = {"prompt": "a fox [stuck]", "callback_url": HOOK, "wait_seconds": 0}
        await host.call_tool("generate_image", wanted)
        [task] = sandbox.tasks.values()
        assert task.request.callback_url == HOOK


@pytest.mark.parametrize(
    ("hosts", "allowed"),
    [
        (CallbackHosts(()), "allowed: no callback_url at all."),
        (
            CallbackHosts(("example.com", "*.example.org")),
            "allowed: the hosts example.com, *.example.org.",
        ),
    ],
)
async def test_another_host_is_refused_before_anything_is_sent(
    tmp_path: Path, hosts: CallbackHosts, allowed: str
) -> None:
    sandbox, settings = Sandbox(speed=1e6), settings_for(tmp_path, callback_hosts=hosts)
    async with host_of(sandbox, settings) as host:
        wanted = {"prompt": "a fox", "callback_url": "https://Hooks.example.com:8443/x?y"}
        result = await host.call_tool("generate_image", wanted)
        assert not sandbox.requests
        error = answer_of(result).error
        assert error is not None
        assert (error.code, error.charged) == ("invalid_request", "no")
        assert error.message.startswith(
            "callback_url: points to hooks.example.com, which the setting EVOLINK_CALLBACK_HOSTS"
        )
        assert error.message.endswith(allowed)
        assert "EVOLINK_CALLBACK_HOSTS" in error.next_step
        assert error.message in text_of(result)


async def test_what_the_api_refuses_is_refused_whatever_the_setting(tmp_path: Path) -> None:
    sandbox = Sandbox()
    async with host_of(sandbox, settings_for(tmp_path)) as host:
        for url in ("http://hooks.example.com/x", "https://10.0.0.1/x", "https://u:p@a.com/"):
            result = await host.call_tool("generate_image", {"prompt": "a", "callback_url": url})
            error = answer_of(result).error
            assert error is not None
            assert error.message.startswith("callback_url: ")
        assert not sandbox.requests
