"""The MCP face: the only package that serves MCP."""
