"""An EvoLink in a box: tasks, files, credits, callbacks, and faults on request."""

from evolink_mcp.sandbox.app import Sandbox
from evolink_mcp.sandbox.serving import serve
from evolink_mcp.sandbox.tasks import SandboxTask

__all__ = ["Sandbox", "SandboxTask", "serve"]
