"""Where a caller may have EvoLink send the result of a task."""

from __future__ import annotations

from evolink_mcp.catalog.addresses import split_url
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import InvalidRequest, Problem
from evolink_mcp.settings import CallbackHosts


def check_callback_host(request: ImageRequest, *, hosts: CallbackHosts) -> None:
    """Check a request's `callback_url`, whose form was checked before.

    A callback carries the pictures' addresses, and no signature tells whose it is.

    Raises:
        InvalidRequest: The operator does not allow its host.
    """
    parts = split_url(request.callback_url) if request.callback_url else None
    if parts is None or hosts.allow(parts.hostname or ""):
        return
    rule = f"points to {parts.hostname}, which the setting EVOLINK_CALLBACK_HOSTS does not allow"
    allowed = f"the hosts {', '.join(hosts.names)}" if hosts.names else "no callback_url at all"
    raise InvalidRequest(
        problems=(Problem("callback_url", rule, allowed),),
        next_step="Leave callback_url out: this tool waits by itself. EVOLINK_CALLBACK_HOSTS is up "
        "to whoever runs this server.",
    )
