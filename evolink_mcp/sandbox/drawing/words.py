"""The words that the sandbox knows in a prompt, and what each one changes in the picture."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

RGB: TypeAlias = tuple[int, int, int]


class Hour(StrEnum):
    """The time of day, which sets the light."""

    MORNING = "morning"
    DAY = "day"
    SUNSET = "sunset"
    NIGHT = "night"


class Setting(StrEnum):
    """The kind of land behind the subjects."""

    HILLS = "hills"
    MOUNTAINS = "mountains"
    FOREST = "forest"
    SEA = "sea"
    CITY = "city"
    DESERT = "desert"


class Weather(StrEnum):
    """What falls or hangs in the air."""

    SNOW = "snow"
    RAIN = "rain"
    FOG = "fog"
    STARS = "stars"


COLOURS: Final[Mapping[str, RGB]] = {
    "red": (212, 64, 40),
    "scarlet": (206, 40, 44),
    "orange": (236, 126, 44),
    "golden": (236, 180, 60),
    "gold": (236, 180, 60),
    "yellow": (246, 206, 74),
    "green": (92, 164, 84),
    "turquoise": (64, 180, 176),
    "teal": (36, 132, 136),
    "blue": (56, 112, 196),
    "purple": (126, 82, 168),
    "violet": (142, 98, 190),
    "pink": (238, 142, 168),
    "brown": (142, 96, 62),
    "white": (246, 244, 238),
    "black": (44, 42, 52),
    "grey": (142, 148, 156),
    "gray": (142, 148, 156),
    "silver": (186, 194, 202),
}

HOURS: Final[Mapping[str, Hour]] = {
    "morning": Hour.MORNING,
    "dawn": Hour.MORNING,
    "sunrise": Hour.MORNING,
    "day": Hour.DAY,
    "noon": Hour.DAY,
    "sunny": Hour.DAY,
    "sunset": Hour.SUNSET,
    "evening": Hour.SUNSET,
    "dusk": Hour.SUNSET,
    "night": Hour.NIGHT,
    "midnight": Hour.NIGHT,
    "moon": Hour.NIGHT,
    "moonlit": Hour.NIGHT,
    "star": Hour.NIGHT,
    "starry": Hour.NIGHT,
    "space": Hour.NIGHT,
}

SETTINGS: Final[Mapping[str, Setting]] = {
    "hill": Setting.HILLS,
    "meadow": Setting.HILLS,
    "field": Setting.HILLS,
    "mountain": Setting.MOUNTAINS,
    "alps": Setting.MOUNTAINS,
    "peak": Setting.MOUNTAINS,
    "forest": Setting.FOREST,
    "wood": Setting.FOREST,
    "sea": Setting.SEA,
    "ocean": Setting.SEA,
    "lake": Setting.SEA,
    "beach": Setting.SEA,
    "harbour": Setting.SEA,
    "harbor": Setting.SEA,
    "city": Setting.CITY,
    "town": Setting.CITY,
    "street": Setting.CITY,
    "skyline": Setting.CITY,
    "desert": Setting.DESERT,
    "dune": Setting.DESERT,
    # A subject at home somewhere brings its surroundings when the prompt names none.
    "boat": Setting.SEA,
    "ship": Setting.SEA,
    "fish": Setting.SEA,
    "lighthouse": Setting.SEA,
}

WEATHERS: Final[Mapping[str, Weather]] = {
    "snow": Weather.SNOW,
    "snowy": Weather.SNOW,
    "winter": Weather.SNOW,
    "rain": Weather.RAIN,
    "rainy": Weather.RAIN,
    "storm": Weather.RAIN,
    "fog": Weather.FOG,
    "foggy": Weather.FOG,
    "mist": Weather.FOG,
    "misty": Weather.FOG,
    "star": Weather.STARS,
    "starry": Weather.STARS,
}

ACTORS: Final[Mapping[str, str]] = {
    "fox": "fox",
    "foxes": "fox",
    "cat": "cat",
    "kitten": "cat",
    "dog": "dog",
    "puppy": "dog",
    "bird": "bird",
    "robin": "bird",
    "fish": "fish",
    "boat": "boat",
    "ship": "boat",
    "house": "house",
    "cabin": "house",
    "cottage": "house",
    "lighthouse": "lighthouse",
    "tree": "tree",
    "flower": "flower",
    "rocket": "rocket",
    "balloon": "balloon",
    "car": "car",
}

COMPANIONS: Final[Mapping[Setting, tuple[str, ...]]] = {
    Setting.HILLS: ("house", "balloon", "tree"),
    Setting.MOUNTAINS: ("house", "balloon"),
    Setting.FOREST: ("house",),
    Setting.SEA: ("boat",),
    Setting.CITY: ("car",),
    Setting.DESERT: ("balloon",),
}

GROUND_WORDS: Final = frozenset({"hill", "field", "meadow", "grass", "ground", "mountain", "dune"})
SOFT_WORDS: Final = frozenset({"watercolour", "watercolor", "pastel", "soft", "dreamy"})
HOURS_UNASKED: Final = (Hour.DAY, Hour.DAY, Hour.MORNING, Hour.SUNSET)
# Snow is expected to be white, which it is not in the light of a sunset.
HOURS_UNASKED_IN_SNOW: Final = (Hour.DAY, Hour.DAY, Hour.MORNING)
SETTINGS_UNASKED: Final = (Setting.HILLS, Setting.HILLS, Setting.MOUNTAINS, Setting.FOREST)
