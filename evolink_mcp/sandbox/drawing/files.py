"""Picture files in other forms than the sandbox draws them."""

from __future__ import annotations

from io import BytesIO
from typing import Final, Literal

from PIL import Image

OPAQUE: Final = 255

PictureType = Literal["png", "jpeg", "webp"]


def as_type(content: bytes, picture_type: PictureType) -> bytes:
    """Return a PNG file as a file of another type."""
    if picture_type == "png":
        return content
    with Image.open(BytesIO(content)) as image:
        return _encoded(image.convert("RGB"), picture_type)


def white_where_clear(mask: bytes) -> bytes:
    """Return a mask that is drawn anew where it is not opaque as one that is where it is white."""
    with Image.open(BytesIO(mask)) as image:
        opaque = image.convert("RGBA").getchannel("A")
    return _encoded(opaque.point([255 * (level < OPAQUE) for level in range(256)]), "png")


def _encoded(picture: Image.Image, picture_type: PictureType) -> bytes:
    file = BytesIO()
    picture.save(file, picture_type.upper())
    return file.getvalue()
