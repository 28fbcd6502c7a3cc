"""Pictures opened, decoded, made plain and written again; all of it blocking."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from evolink_mcp.jobs.extent import picture_end
from evolink_mcp.jobs.pictures import BROKEN, MAX_PIXELS, NotAPicture, type_of

if TYPE_CHECKING:  # Pillow is off the way to the first answer
    from PIL.Image import Image as Frame

_READABLE = frozenset({"jpeg", "png", "gif", "webp", "bmp", "tiff", "avif", "heic"})

_QUALITY = 95

_BROKEN = (*BROKEN, MemoryError, RuntimeError)
"""As `BROKEN`, and what the readers of AVIF and HEIF raise beside it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A picture as it came: its own bytes, its type, its decoded first frame."""

    content: bytes
    type: str
    left_out: int
    """Bytes that came after the picture."""
    image: Frame


@contextmanager
def opened(content: bytes) -> Generator[Source]:
    """Open and decode a picture, whatever its bytes do to the reader."""
    from PIL import Image  # noqa: PLC0415 - off the way to the first answer

    name = _type_of(content)
    if name not in _READABLE:
        raise NotAPicture(f"its type is {name or 'unknown'}")
    end = picture_end(content, name)
    whole = content if end is None else content[:end]
    try:
        with _reader(whole, name) as image:
            pixels = image.width * image.height
            if not 0 < pixels <= MAX_PIXELS:
                raise NotAPicture(f"it has {pixels} pixels, at most {MAX_PIXELS} can be read")
            image.load()
            yield Source(whole, name, len(content) - len(whole), image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise NotAPicture(f"it has more than {MAX_PIXELS} pixels") from error
    except _BROKEN as error:
        raise NotAPicture("it is cut off or broken") from error


def _type_of(content: bytes) -> str:
    """Name the type; a file that is first of all a HEIF container may hold an AVIF picture."""
    name = type_of(content[:64])
    brands = content[16 : min(64, int.from_bytes(content[:4], "big"))]
    return "avif" if name == "heic" and b"avif" in brands else name


def _reader(content: bytes, name: str) -> Frame:
    if name == "heic":
        from pillow_heif import HeifImageFile  # noqa: PLC0415 - rarely needed

        return HeifImageFile(BytesIO(content))  # type: ignore[no-untyped-call]
    from PIL import Image  # noqa: PLC0415 - off the way to the first answer

    return Image.open(BytesIO(content), formats=(name.upper(),))


def plain(image: Frame) -> Frame:
    """Return the first frame upright, in grey, RGB or RGBA, with its colour profile alone."""
    from PIL import ImageOps  # noqa: PLC0415 - off the way to the first answer

    profile = image.info.get("icc_profile")
    upright = ImageOps.exif_transpose(image)
    frame = _in_common_mode(upright)
    fits = image.mode in {"RGB", "RGBA", "P"} or frame.mode == "L" == image.mode
    frame.info = {"icc_profile": profile} if profile and fits else {}
    return frame


def _in_common_mode(image: Frame) -> Frame:
    if image.mode.startswith("I;16"):  # a plain conversion would cut off, not scale
        return image.convert("I").point(lambda level: level * (1 / 256)).convert("L")
    if image.mode in {"I", "F"}:
        raise NotAPicture("its pixels have more levels than other types can hold")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in {"1", "L"} else "RGB")


def without_idle_alpha(frame: Frame) -> Frame:
    """Drop transparency that shows nowhere."""
    if frame.mode == "RGBA" and frame.getchannel("A").getextrema() == (255, 255):
        return frame.convert("RGB")
    return frame


def resized(frame: Frame, size: tuple[int, int]) -> Frame:
    """Return the frame in another size, in pixels."""
    from PIL import Image  # noqa: PLC0415 - off the way to the first answer

    if size == frame.size:
        return frame
    return frame.resize(size, Image.Resampling.LANCZOS)


def encoded(frame: Frame, name: str) -> bytes:
    """Write a plain frame as `png` or `jpeg`."""
    stream, profile = BytesIO(), frame.info.get("icc_profile")
    if name == "png":
        frame.save(stream, "PNG", icc_profile=profile)
    else:
        frame.save(stream, "JPEG", quality=_QUALITY, subsampling=0, icc_profile=profile)
    return stream.getvalue()
