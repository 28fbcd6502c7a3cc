"""The command that shows what was bought, and fetches what is not on disk yet."""

from __future__ import annotations

from functools import partial
from typing import get_args

import anyio
import click

from evolink_mcp.server.answers import Shown
from evolink_mcp.settings import Settings

_NEWEST = 20


@click.group(invoke_without_command=True)
@click.option("--status", type=click.Choice(get_args(Shown)), help="Only those.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=_NEWEST,
    show_default=True,
    help="How many, newest first.",
)
@click.option("--watch", is_flag=True, help="Look again every second until nothing is running.")
@click.pass_context
def tasks(context: click.Context, *, status: Shown | None, limit: int, watch: bool) -> None:
    """Show what was bought, where it is and what it cost; needs no key."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console  # noqa: PLC0415 - not for hosts

    from evolink_mcp.cli.listing import Choice, show_tasks  # noqa: PLC0415 - not for hosts

    settings: Settings = context.obj
    choice = Choice(status=status, limit=limit)
    anyio.run(partial(show_tasks, settings, choice, console=Console(), watch=watch))


@tasks.command()
@click.pass_obj
def collect(settings: Settings) -> None:
    """Fetch what was bought and is not on disk yet; costs nothing."""
    from evolink_mcp.api.network import Network  # noqa: PLC0415 - not for hosts
    from evolink_mcp.cli.fetch import collect_tasks  # noqa: PLC0415 - not for hosts

    anyio.run(collect_tasks, settings, Network())
