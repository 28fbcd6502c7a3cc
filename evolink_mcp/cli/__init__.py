"""The commands: from arguments to a running program."""

from __future__ import annotations

from evolink_mcp.cli.commands import main

__all__ = ["main"]
