"""EvoLink's image generation for anything that speaks the Model Context Protocol."""

__version__ = "0.1.0"
