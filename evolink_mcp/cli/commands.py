"""What a person or a host can start."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import TypedDict, Unpack

import anyio
import click

from evolink_mcp import __version__
from evolink_mcp.cli.serve import SANDBOX_KEY, SANDBOX_SPEED, serve
from evolink_mcp.cli.tasks import tasks
from evolink_mcp.errors import EvolinkError
from evolink_mcp.logs import configure_logging
from evolink_mcp.settings import Settings, read_settings

logger = logging.getLogger(__name__)

FAILED = 1
UNEXPECTED = 70
INTERRUPTED = 130
_REPORT = "Please report it with the lines above; they hold no secrets."
DEMO_PROMPT = "a red fox in the snow"
DEMO_FOLDER = Path("pictures")


def main() -> None:
    """Run a command; every failure is one line on stderr and a non-zero exit."""
    try:
        commands(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    except EvolinkError as error:
        click.echo(f"evolink-mcp: {error.message} {error.next_step}", err=True)
        sys.exit(FAILED)
    except Exception:
        logger.exception("unexpected failure")
        click.echo(f"evolink-mcp: something unexpected happened. {_REPORT}", err=True)
        sys.exit(UNEXPECTED)


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="evolink-mcp")
@click.pass_context
def commands(context: click.Context) -> None:
    """Serve EvoLink's image generation to an assistant, over MCP.

    Without a command: serve over stdio, which is what a host's configuration runs.
    """
    settings = read_settings()
    configure_logging(settings.log_level)
    context.obj = settings
    if context.invoked_subcommand is None:
        anyio.run(serve, settings)


commands.add_command(tasks)


class _Fields(TypedDict, total=False):
    """Options that go to the tool as they are."""

    size: str | None
    n: str | None
    image_urls: tuple[str, ...]
    mask_url: str | None


_size = click.option("--size", help="Ratio or pixels, such as 3:2 or 1024x1536.")
_n = click.option("-n", "--n", "n", help="How many pictures: 1, 2 or 4.")
_reference = click.option(
    "--reference", "image_urls", multiple=True, help="Address of a picture to edit; repeatable."
)
_mask = click.option(
    "--mask", "mask_url", help="Address of a PNG; what is white in it is drawn anew."
)
_folder = click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the pictures; EVOLINK_OUTPUT_DIR if left out.",
)


@commands.command()
@click.argument("prompt", default=DEMO_PROMPT)
@_size
@_n
@_folder
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 1000),
    default=SANDBOX_SPEED,
    show_default=True,
    help="How much faster than EvoLink the sandbox is.",
)
@click.pass_obj
def demo(
    settings: Settings,
    /,
    *,
    prompt: str,
    output_dir: Path | None,
    speed: float,
    **fields: Unpack[_Fields],
) -> None:
    """Go the whole way without a key: sandbox, server, picture."""
    from evolink_mcp.cli.host import run_demo  # noqa: PLC0415 - not for hosts
    from evolink_mcp.cli.show import show_pictures  # noqa: PLC0415 - not for hosts

    folder = output_dir or settings.output_dir or DEMO_FOLDER
    arguments = _arguments(prompt, **fields)
    run = partial(run_demo, _saving_to(settings, folder), arguments, speed=speed)
    show_pictures(anyio.run(run))
    click.echo("Drawn by the sandbox. With an EvoLink key: evolink-mcp generate PROMPT", err=True)


@commands.command()
@click.argument("prompt")
@_size
@_n
@_reference
@_mask
@_folder
@click.pass_obj
def generate(
    settings: Settings, *, prompt: str, output_dir: Path | None, **fields: Unpack[_Fields]
) -> None:
    """Buy pictures from EvoLink and save them; costs credits."""
    from evolink_mcp.cli.host import run_generate  # noqa: PLC0415 - not for hosts
    from evolink_mcp.cli.show import show_pictures  # noqa: PLC0415 - not for hosts

    folder = output_dir or settings.picture_folder()
    run = partial(run_generate, _saving_to(settings, folder), _arguments(prompt, **fields))
    show_pictures(anyio.run(run))


@commands.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8787,
    show_default=True,
    help="0 takes any free port.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 1000),
    default=1.0,
    show_default=True,
    help="How much faster than EvoLink it is.",
)
@click.option(
    "--credits",
    "balance",
    type=click.FloatRange(0),
    default=1000.0,
    show_default=True,
    help="Balance at the start.",
)
@click.option("--key", default=SANDBOX_KEY, show_default=True, help="The key it takes.")
def sandbox(*, port: int, speed: float, balance: float, key: str) -> None:
    """Run the EvoLink in a box by itself, on loopback."""
    from evolink_mcp.cli.box import run_sandbox  # noqa: PLC0415 - not for hosts

    anyio.run(partial(run_sandbox, port, speed=speed, balance=balance, key=key))


def _arguments(prompt: str, **fields: Unpack[_Fields]) -> dict[str, object]:
    """Keep what was given, under the tool's own names; the server reads and checks it."""
    given = {"prompt": _readable(prompt), **fields}
    return {name: value for name, value in given.items() if value}


def _readable(prompt: str) -> str:
    """Refuse bytes that are no text in the terminal's encoding."""
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError:
        message = "it is not valid UTF-8"
        raise click.BadParameter(message, param_hint="PROMPT") from None
    return prompt


def _saving_to(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={"output_dir": folder.expanduser().absolute()})
