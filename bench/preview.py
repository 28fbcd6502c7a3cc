"""What a preview costs, by format and size, against the format that is used.

Three pictures as the sandbox draws them stand for what models make; how well a preview
shows its picture is given as PSNR in dB against the picture reduced without loss.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageChops, ImageStat

from evolink_mcp.sandbox.drawing import draw_picture

PROMPTS = ("a red fox in the snow", "a city at night with rain", "a beautiful sunset at sea")
SIDES = (512, 768, 1024, 1536)
FORMATS: tuple[tuple[str, dict[str, int]], ...] = (
    ("WEBP", {"quality": 80, "method": 2}),
    ("WEBP", {"quality": 80, "method": 4}),
    ("JPEG", {"quality": 80}),
    ("JPEG", {"quality": 90}),
    ("PNG", {}),
)
ROUNDS = 5


@dataclass(frozen=True)
class Cost:
    """What one kind of preview costs."""

    milliseconds: float
    kilobytes: float
    decibels: float


def main() -> None:
    """Measure and print."""
    pictures = [draw_picture(prompt, width=1536, height=1024) for prompt in PROMPTS]
    used = cost(pictures, side=1024, form=FORMATS[0])
    for side in SIDES:
        for form in FORMATS:
            found = cost(pictures, side=side, form=form)
            print(
                f"preview {form[0]:4} {form[1]!s:32} {side:4} px: {found.milliseconds:4.0f} ms "
                f"({found.milliseconds / used.milliseconds:.2f}), {found.kilobytes:4.0f} KB "
                f"({found.kilobytes / used.kilobytes:.2f}), {found.decibels:.1f} dB"
            )


def cost(pictures: list[bytes], *, side: int, form: tuple[str, dict[str, int]]) -> Cost:
    """Return what previews of the pictures cost, at the mean; time is the least of some rounds."""
    each = [_cost(picture, side=side, form=form) for picture in pictures]
    return Cost(
        statistics.mean(one.milliseconds for one in each),
        statistics.mean(one.kilobytes for one in each),
        statistics.mean(one.decibels for one in each),
    )


def _cost(picture: bytes, *, side: int, form: tuple[str, dict[str, int]]) -> Cost:
    times: list[float] = []
    content = b""
    for _ in range(ROUNDS):
        started = time.perf_counter()
        frame = _reduced(picture, side=side)
        kept = BytesIO()
        frame.save(kept, form[0], **form[1])
        times.append(time.perf_counter() - started)
        content = kept.getvalue()
    shown = Image.open(BytesIO(content)).convert("RGB")
    exact = _reduced(picture, side=side)
    return Cost(min(times) * 1e3, len(content) / 1e3, _decibels(shown, exact))


def _reduced(picture: bytes, *, side: int) -> Image.Image:
    frame = Image.open(BytesIO(picture)).convert("RGB")
    frame.thumbnail((side, side))
    return frame


def _decibels(shown: Image.Image, exact: Image.Image) -> float:
    error = statistics.mean(ImageStat.Stat(ImageChops.difference(shown, exact)).rms)
    return 20 * math.log10(255 / error) if error else math.inf


if __name__ == "__main__":
    main()
