"""Captions: many wordings for one scene, some of them leaving parts out."""

from __future__ import annotations

import random

from demo.scenes import Scene

SHAPE_WORDS = {
    "ball": ("ball", "sphere", "orb", "round ball"),
    "cube": ("cube", "box", "block", "die"),
    "cone": ("cone", "pointed cone", "traffic cone"),
    "ring": ("ring", "torus", "hoop", "donut"),
    "cylinder": ("cylinder", "can", "barrel", "drum"),
}
COLOUR_WORDS = {
    "red": ("red", "bright red", "crimson", "scarlet"),
    "orange": ("orange", "tangerine", "bright orange"),
    "yellow": ("yellow", "golden", "lemon yellow"),
    "green": ("green", "emerald", "bright green"),
    "blue": ("blue", "azure", "deep blue"),
    "purple": ("purple", "violet", "lilac"),
    "pink": ("pink", "magenta", "hot pink"),
    "white": ("white", "ivory", "pure white"),
}
FLOOR_WORDS = {
    "checkerboard": (
        "on a checkerboard",
        "on a checkered floor",
        "on a chessboard",
        "on polished tiles",
        "on a tiled floor",
    ),
    "grass": (
        "on grass",
        "on a meadow",
        "in a green field",
        "on a lawn",
        "over grassland",
        "in the grass",
    ),
    "sand": (
        "on sand",
        "on a beach",
        "in the desert",
        "on sand dunes",
        "in the sand",
    ),
    "snow": (
        "on snow",
        "in the snow",
        "on a snowy field",
        "in a winter landscape",
        "on fresh snow",
    ),
}
SKY_WORDS = {
    "day": (
        "at day",
        "by day",
        "at noon",
        "under a blue sky",
        "on a sunny day",
        "in daylight",
        "in the morning",
    ),
    "sunset": (
        "at sunset",
        "at dusk",
        "in the evening light",
        "at golden hour",
        "under an orange sky",
        "as the sun goes down",
    ),
    "night": (
        "at night",
        "under the stars",
        "at midnight",
        "under a starry sky",
        "in the moonlight",
        "in the dark",
    ),
}
MOTION_WORDS = {
    "left": (
        "moving left",
        "moving to the left",
        "sliding left",
        "gliding to the left",
        "travelling left",
        "going left",
        "rolling left",
        "drifting to the left",
    ),
    "right": (
        "moving right",
        "moving to the right",
        "sliding right",
        "gliding to the right",
        "travelling right",
        "going right",
        "rolling right",
        "drifting to the right",
    ),
    "bouncing": (
        "bouncing",
        "bouncing up and down",
        "jumping",
        "hopping",
        "jumping up and down",
    ),
    "spinning": (
        "spinning",
        "rotating",
        "turning",
        "twirling",
        "spinning in place",
        "whirling",
    ),
    "circling": (
        "circling",
        "going round in circles",
        "moving in a circle",
        "circling around",
        "running in circles",
    ),
    "still": (
        "standing still",
        "resting",
        "lying still",
        "standing",
        "not moving",
        "sitting",
        "at rest",
    ),
}
OPENINGS = ("", "", "", "a video of ", "a clip of ", "a film of ", "a shot of ")
ENDINGS = (
    "",
    "",
    "",
    "",
    ", 3d render",
    ", cinematic",
    ", high quality",
    ", beautiful",
)
DROP = 0.06
"""How often a part of the caption is left out."""


def canonical_caption(scene: Scene) -> str:
    """The plainest wording, as the documentation uses it."""
    noun = f"{scene.colour} {scene.shape}"
    return " ".join(
        (
            _with_article(noun),
            MOTION_WORDS[scene.motion][0],
            FLOOR_WORDS[scene.floor][0],
            SKY_WORDS[scene.sky][0],
        )
    )


def full_caption(scene: Scene, rng: random.Random) -> str:
    """A random wording that names every attribute."""
    return _compose(scene, rng, drop=0.0)


def training_caption(scene: Scene, rng: random.Random) -> str:
    """A random wording that may leave parts out."""
    return _compose(scene, rng, drop=DROP)


def sparse_caption(scene: Scene, rng: random.Random) -> str:
    """A random wording that leaves out as much as it says."""
    return _compose(scene, rng, drop=0.5)


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _compose(scene: Scene, rng: random.Random, drop: float) -> str:
    def said(words: tuple[str, ...]) -> str:
        return "" if rng.random() < drop else rng.choice(words)

    shape = said(SHAPE_WORDS[scene.shape]) or "thing"
    colour = said(COLOUR_WORDS[scene.colour])
    noun = _with_article(f"{colour} {shape}".strip())
    motion = said(MOTION_WORDS[scene.motion])
    floor = said(FLOOR_WORDS[scene.floor])
    sky = said(SKY_WORDS[scene.sky])
    order = rng.random()
    if order < 0.6:
        parts = [noun, motion, floor, sky]
    elif order < 0.8:
        parts = [noun, motion, sky, floor]
    elif sky:
        parts = [f"{sky},", noun, motion, floor]
    else:
        parts = [noun, floor, motion]
    body = " ".join(part for part in parts if part)
    if rng.random() < 0.3 and " is " not in body and motion and order < 0.8:
        body = body.replace(f" {motion}", f" is {motion}", 1)
    opening = "" if body.startswith(sky) and sky else rng.choice(OPENINGS)
    caption = opening + body + rng.choice(ENDINGS)
    if rng.random() < 0.3:
        caption = caption.capitalize() + "."
    return caption


def vocabulary() -> list[str]:
    """Every word that a caption can hold, lower case, sorted."""
    words = {"a", "an", "is", "thing", ",", "."}
    tables = (SHAPE_WORDS, COLOUR_WORDS, FLOOR_WORDS, SKY_WORDS, MOTION_WORDS)
    phrases = [
        phrase for table in tables for group in table.values() for phrase in group
    ]
    phrases += [*OPENINGS, *ENDINGS]
    for phrase in phrases:
        words.update(phrase.replace(",", " , ").split())
    return sorted(words)
