"""What a person or a host can start."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Unpack

import anyio
import click

from evolink_mcp import __version__
from evolink_mcp.cli.serve import SANDBOX_KEY, SANDBOX_SPEED, serve
from evolink_mcp.cli.tasks import tasks
from evolink_mcp.cli.wanted import Fields, read_wanted
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
    configure_logging(settings.log_level, settings.log_format)
    context.obj = settings
    if context.invoked_subcommand is None:
        anyio.run(serve, settings)


commands.add_command(tasks)


_model = click.option("-m", "--model", help="Image model; the first of EVOLINK_MODELS if left out.")
_size = click.option("--size", help="Ratio or pixels, such as 3:2 or 1024x1536.")
_n = click.option("-n", "--n", "n", help="How many pictures.")
_others = click.option(
    "--set",
    "others",
    multiple=True,
    metavar="NAME=VALUE",
    help="A further field of the model, such as quality=high or model_params.speed=draft; "
    "repeatable.",
)
_reference = click.option(
    "--reference",
    "image_urls",
    multiple=True,
    help="Address or file of a picture to edit; repeatable.",
)
_mask = click.option(
    "--mask", "mask_url", help="Address or file of a PNG that marks what is drawn anew."
)
_folder = click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the pictures; EVOLINK_OUTPUT_DIR if left out.",
)


@commands.command()
@click.argument("prompt", default=DEMO_PROMPT)
@_model
@_size
@_n
@_reference
@_mask
@_others
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
    **fields: Unpack[Fields],
) -> None:
    """Go the whole way without a key: sandbox, server, picture."""
    from evolink_mcp.cli.host import run_demo  # noqa: PLC0415 - not for hosts
    from evolink_mcp.cli.show import show_pictures  # noqa: PLC0415 - not for hosts

    folder = output_dir or settings.output_dir or DEMO_FOLDER
    wanted = read_wanted(_readable(prompt), **fields)
    run = partial(run_demo, wanted.opened(settings, folder), wanted.arguments, speed=speed)
    show_pictures(anyio.run(run))
    click.echo("Drawn by the sandbox. With an EvoLink key: evolink-mcp generate PROMPT", err=True)


@commands.command()
@click.argument("prompt")
@_model
@_size
@_n
@_reference
@_mask
@_others
@_folder
@click.pass_obj
def generate(
    settings: Settings, *, prompt: str, output_dir: Path | None, **fields: Unpack[Fields]
) -> None:
    """Buy pictures from EvoLink and save them; costs credits."""
    from evolink_mcp.cli.host import run_generate  # noqa: PLC0415 - not for hosts
    from evolink_mcp.cli.show import show_pictures  # noqa: PLC0415 - not for hosts

    folder = output_dir or settings.picture_folder()
    wanted = read_wanted(_readable(prompt), **fields)
    run = partial(run_generate, wanted.opened(settings, folder), wanted.arguments)
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


@commands.command("serve")
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Serve over Streamable HTTP at /mcp, such as 127.0.0.1:8080; over stdio if left out.",
)
@click.option(
    "--open-to-anyone",
    is_flag=True,
    help="Listen beyond this machine although nothing says who may call.",
)
@click.pass_obj
def serve_command(settings: Settings, *, http: str | None, open_to_anyone: bool) -> None:
    """Serve to an assistant over stdio, or to many over HTTP."""
    if http is None:
        anyio.run(serve, settings)
    else:
        from evolink_mcp.cli.http import serve_http  # noqa: PLC0415 - not for hosts, and heavy

        anyio.run(partial(serve_http, settings, http, open_to_anyone=open_to_anyone))


@commands.command()
@click.argument("name")
def token(*, name: str) -> None:
    """Make a token for a caller over HTTP; what lets it in goes into EVOLINK_TOKENS_FILE."""
    from evolink_mcp.service.tokens import entry_of, new_token  # noqa: PLC0415 - not for hosts

    made = new_token()
    entry = entry_of(name, made)
    click.echo(made)
    click.echo(f"# Add to EVOLINK_TOKENS_FILE:\n\n{entry}", err=True)


def _readable(prompt: str) -> str:
    """Refuse bytes that are no text in the terminal's encoding."""
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError:
        message = "it is not valid UTF-8"
        raise click.BadParameter(message, param_hint="PROMPT") from None
    return prompt
