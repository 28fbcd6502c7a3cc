from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from mcp import StdioServerParameters

from tests.cli.conftest import Terminal
from tests.pipes import initialize, request, send, started
from tests.servers import process


async def test_serve_alone_serves_over_stdio(tmp_path: Path) -> None:
    given = process({"EVOLINK_OUTPUT_DIR": str(tmp_path)})
    program = StdioServerParameters(
        command=given.command, args=[*given.args, "serve"], env=given.env
    )
    async with started({}, program=program) as (server, lines):
        await send(server, initialize())
        await send(server, request(2, "tools/list", {}))
        assert (await anext(lines))["id"] == 2
    assert server.returncode == 0


@pytest.mark.parametrize("words", [(), ("--open-to-anyone",)])
def test_what_is_no_address_is_said_in_one_line(terminal: Terminal, words: tuple[str, ...]) -> None:
    ended = terminal.run("serve", "--http", "example.com:80", *words)
    assert ended.code == 1
    assert "--http 127.0.0.1:8080" in ended.last_line


def test_beyond_this_machine_it_asks_for_tokens_first(terminal: Terminal) -> None:
    ended = terminal.run("serve", "--http", "0.0.0.0:0")
    assert ended.code == 1
    assert "EVOLINK_TOKENS_FILE" in ended.last_line
    assert "--open-to-anyone" in ended.last_line


def test_a_token_is_printed_apart_from_the_lines_for_its_file(terminal: Terminal) -> None:
    ended = terminal.run("token", "alice")
    assert ended.code == 0
    assert re.fullmatch(r"evm_[A-Za-z0-9_-]{43}\n", ended.out)
    assert re.search(r'\n\["alice"\]\nsha256 = "[0-9a-f]{64}"\n', ended.err)
    assert ended.out.strip() not in ended.err


def test_what_a_token_prints_beside_itself_can_go_into_the_file_as_it_is(
    terminal: Terminal,
) -> None:
    printed = terminal.run("token", "alice").err + terminal.run("token", "bob").err
    assert list(tomllib.loads(printed)) == ["alice", "bob"]


def test_what_is_no_name_gets_no_token(terminal: Terminal) -> None:
    ended = terminal.run("token", "a b")
    assert (ended.code, ended.out) == (1, "")
    assert "A name has letters" in ended.last_line
