"""Real pictures drawn from a prompt: a paper landscape, and edits that show their input."""

from evolink_mcp.sandbox.drawing.draw import draw_picture

__all__ = ["draw_picture"]
