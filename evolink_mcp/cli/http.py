"""Serving over HTTP; imported before the event loop runs, for its libraries read files."""

from __future__ import annotations

import signal

import anyio
import click

from evolink_mcp import service
from evolink_mcp.cli.serve import evolink_of
from evolink_mcp.server.principals import KEY_HEADER
from evolink_mcp.settings import Settings

_NAMELESS = (
    "Only callers who use this very IP address or a loopback name are answered: "
    "set EVOLINK_PUBLIC_URL, or EVOLINK_ALLOWED_HOSTS to the names that others use, such as "
    "mcp.example.com."
)

_KEYLESS = (
    "There is no EVOLINK_API_KEY: only callers are served who bring an EvoLink key of their own "
    f"in the HTTP header {KEY_HEADER}."
)


async def serve_http(settings: Settings, given: str, *, open_to_anyone: bool) -> None:
    """Serve over HTTP until a signal comes; then let calls under way end, for some seconds.

    Further signals change nothing: the end comes within 10 s.

    Raises:
        SettingInvalid: A setting does not work, the address cannot be had, or the service would
            be open to everybody.
    """
    address = service.read_address(given)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            evolink_of(settings) as aimed,
            service.serve(aimed, address, open_to_anyone=open_to_anyone) as url,
        ):
            click.echo(f"Serving MCP at {url}   (Ctrl-C ends it)", err=True)
            if not (address.is_loopback or settings.allowed_hosts or settings.public_url):
                click.echo(_NAMELESS, err=True)
            if aimed.api_key is None:
                click.echo(_KEYLESS, err=True)
            await anext(signals)
