"""Pictures that are there from the start, so that an edit can be tried at once."""

from __future__ import annotations

from io import BytesIO
from typing import Final

from PIL import Image, ImageDraw

from evolink_mcp.sandbox.drawing.draw import draw_picture
from evolink_mcp.sandbox.files import FileStore

SIDE: Final = 1024
"""Width and height of every sample, in pixels."""

_PHOTO = "a red fox in the snow"


def offer_samples(files: FileStore) -> None:
    """Put the samples onto the file host; each is made when it is first read."""
    files.put("/files/samples/photo.png", _photo_png, media_type="image/png")
    files.put("/files/samples/photo.jpg", _photo_jpeg, media_type="image/jpeg")
    files.put("/files/samples/mask.png", _mask_png, media_type="image/png")


def _photo_png() -> bytes:
    return draw_picture(_PHOTO, width=SIDE, height=SIDE)


def _photo_jpeg() -> bytes:
    with Image.open(BytesIO(_photo_png())) as picture:
        return _encoded(picture.convert("RGB"), "JPEG")


def _mask_png() -> bytes:
    mask = Image.new("L", (SIDE, SIDE), 0)
    margin = SIDE // 4
    ImageDraw.Draw(mask).ellipse((margin, margin, SIDE - margin, SIDE - margin), fill=255)
    return _encoded(mask, "PNG")


def _encoded(picture: Image.Image, form: str) -> bytes:
    stream = BytesIO()
    picture.save(stream, form)
    return stream.getvalue()
