"""What a prompt asks to see: the words that the sandbox knows, and their effects on a picture."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from evolink_mcp.sandbox.drawing.words import (
    ACTORS,
    COLOURS,
    COMPANIONS,
    GROUND_WORDS,
    HOURS,
    HOURS_UNASKED,
    HOURS_UNASKED_IN_SNOW,
    RGB,
    SETTINGS,
    SETTINGS_UNASKED,
    SOFT_WORDS,
    WEATHERS,
    Hour,
    Setting,
    Weather,
)


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of a scene; `sky` runs from the top of the picture to the horizon."""

    sky: tuple[RGB, RGB, RGB]
    glow: RGB
    haze: RGB
    ground: RGB
    foliage: RGB
    water: RGB


@dataclass(frozen=True, slots=True)
class Actor:
    """One subject of the picture; without a colour it keeps its natural one."""

    name: str
    colour: RGB | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that the prompt decides; the veil is the light on the subjects and its share."""

    hour: Hour
    setting: Setting
    weather: frozenset[Weather]
    actors: tuple[Actor, ...]
    palette: Palette
    veil: tuple[RGB, float]
    soft: bool


PAPER: Final[RGB] = (252, 247, 236)
SNOW: Final[RGB] = (247, 250, 253)
SLATE: Final[RGB] = (104, 118, 136)
SAND: Final[RGB] = (226, 184, 124)
ACTORS_AT_MOST: Final = 3

PALETTES: Final[Mapping[Hour, Palette]] = {
    Hour.MORNING: Palette(
        sky=((132, 184, 206), (214, 220, 208), (253, 222, 190)),
        glow=(255, 246, 216),
        haze=(206, 196, 190),
        ground=(112, 148, 96),
        foliage=(66, 110, 92),
        water=(74, 136, 152),
    ),
    Hour.DAY: Palette(
        sky=((92, 174, 214), (158, 210, 224), (240, 240, 214)),
        glow=(255, 240, 178),
        haze=(166, 204, 204),
        ground=(116, 168, 86),
        foliage=(52, 116, 84),
        water=(42, 128, 164),
    ),
    Hour.SUNSET: Palette(
        sky=((112, 66, 124), (236, 108, 82), (255, 204, 116)),
        glow=(255, 236, 170),
        haze=(230, 132, 104),
        ground=(86, 58, 84),
        foliage=(60, 40, 72),
        water=(108, 62, 108),
    ),
    Hour.NIGHT: Palette(
        sky=((14, 20, 52), (32, 48, 100), (88, 104, 158)),
        glow=(252, 246, 216),
        haze=(72, 90, 146),
        ground=(28, 48, 72),
        foliage=(16, 32, 58),
        water=(22, 42, 86),
    ),
}

VEILS: Final[Mapping[Hour, tuple[RGB, float]]] = {
    Hour.MORNING: (PAPER, 0.05),
    Hour.DAY: (PAPER, 0.0),
    Hour.SUNSET: ((150, 60, 70), 0.18),
    Hour.NIGHT: ((36, 50, 110), 0.16),
}
SNOW_LIGHTS: Final[Mapping[Hour, tuple[RGB, float]]] = {
    Hour.MORNING: (PAPER, 0.3),
    Hour.DAY: (SNOW, 0.0),
    Hour.SUNSET: ((250, 206, 190), 0.3),
    Hour.NIGHT: ((120, 146, 204), 0.45),
}
SOFT_VEIL: Final[tuple[RGB, float]] = (PAPER, 0.24)
_WORD: Final = re.compile(r"[a-z]+")


def mix(colour: RGB, other: RGB, *, share: float) -> RGB:
    """Return `colour` moved towards `other` by `share`, from 0 to 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def read_scene(prompt: str, rng: random.Random) -> Scene:
    """Return the scene that the words of `prompt` ask for; `rng` decides what they leave open."""
    words = tuple(map(_singular, _WORD.findall(prompt.lower())))
    weather = frozenset(WEATHERS[word] for word in words if word in WEATHERS)
    unasked = HOURS_UNASKED_IN_SNOW if Weather.SNOW in weather else HOURS_UNASKED
    hour = next((HOURS[word] for word in words if word in HOURS), rng.choice(unasked))
    setting = _setting(words, rng)
    actors, ground = _coloured(words)
    soft = not SOFT_WORDS.isdisjoint(words)
    return Scene(
        hour=hour,
        setting=setting,
        weather=weather,
        actors=actors or (Actor(rng.choice(COMPANIONS[setting])),),
        palette=_palette(hour, setting, weather=weather, ground=ground, soft=soft, rng=rng),
        veil=SOFT_VEIL if soft else VEILS[hour],
        soft=soft,
    )


def _singular(word: str) -> str:
    singular = word.removesuffix("s")
    return singular if singular in {*ACTORS, *SETTINGS, *HOURS} else word


def _setting(words: Iterable[str], rng: random.Random) -> Setting:
    named = [word for word in words if word in SETTINGS]
    named.sort(key=lambda word: word in ACTORS)
    unasked = rng.choice(SETTINGS_UNASKED)
    return SETTINGS[named[0]] if named else unasked


def _coloured(words: Iterable[str]) -> tuple[tuple[Actor, ...], RGB | None]:
    """Return the subjects and the ground's colour; a colour word belongs to the next noun."""
    colour: RGB | None = None
    ground: RGB | None = None
    actors: list[Actor] = []
    for word in words:
        if word in COLOURS:
            colour = COLOURS[word]
        elif word in ACTORS:
            actors.append(Actor(ACTORS[word], colour))
            colour = None
        elif word in GROUND_WORDS:
            ground, colour = colour, None
    if actors and actors[0].colour is None:
        actors[0] = replace(actors[0], colour=colour)
    return tuple(actors[:ACTORS_AT_MOST]), ground if actors else ground or colour


def _palette(
    hour: Hour,
    setting: Setting,
    *,
    weather: frozenset[Weather],
    ground: RGB | None,
    soft: bool,
    rng: random.Random,
) -> Palette:
    palette = PALETTES[hour]
    chance = rng.choice(tuple(COLOURS.values()))
    palette = replace(palette, haze=mix(palette.haze, chance, share=rng.uniform(0.04, 0.16)))
    if setting is Setting.DESERT:
        palette = replace(palette, ground=mix(SAND, palette.ground, share=0.25))
    if ground is not None:
        palette = replace(palette, ground=mix(ground, palette.ground, share=0.25))
    if Weather.SNOW in weather:
        palette = _snowed(palette, hour)
    if Weather.RAIN in weather:
        palette = _toned(palette, mix(SLATE, palette.sky[0], share=0.4), share=0.38)
    if Weather.FOG in weather:
        palette = _toned(palette, mix(PAPER, palette.sky[1], share=0.5), share=0.4)
    return _toned(palette, PAPER, share=0.3) if soft else palette


def _snowed(palette: Palette, hour: Hour) -> Palette:
    light, share = SNOW_LIGHTS[hour]
    ground = mix(SNOW, light, share=share)
    return replace(
        palette,
        ground=ground,
        haze=mix(palette.haze, mix(ground, palette.sky[0], share=0.4), share=0.7),
        foliage=mix(palette.foliage, (46, 84, 104), share=0.6),
    )


def _toned(palette: Palette, tone: RGB, *, share: float) -> Palette:
    top, middle, low = (mix(colour, tone, share=share) for colour in palette.sky)
    return Palette(
        sky=(top, middle, low),
        glow=mix(palette.glow, tone, share=share / 2),
        haze=mix(palette.haze, tone, share=share),
        ground=mix(palette.ground, tone, share=share / 2),
        foliage=mix(palette.foliage, tone, share=share / 2),
        water=mix(palette.water, tone, share=share / 2),
    )
