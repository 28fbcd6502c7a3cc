"""The same server over HTTP, for many people: who they are, and how it goes."""

from __future__ import annotations

from evolink_mcp.service.address import Address, read_address
from evolink_mcp.service.serving import serve

__all__ = ["Address", "read_address", "serve"]
