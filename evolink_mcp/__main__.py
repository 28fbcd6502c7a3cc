"""`python -m evolink_mcp` is `evolink-mcp`."""

from __future__ import annotations

from evolink_mcp.cli import main

main()
