"""What a demo model is asked to do with images and videos, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from demo.captions import canonical_caption
from demo.controls import edges
from demo.scenes import COLOURS, Scene
from demo.task import hole_masks
from engine.family import ModelVariant
from engine.media.video import VideoWriter

HOLE = (0.25, 0.9, 0.1, 0.9)
"""Of the height and of the width: where things stand and move."""
FPS = 16.0


@dataclass(frozen=True)
class Trial:
    """One request, and what its video is held to."""

    prompt: str
    media: Mapping[str, object]
    scene: Scene
    """What the judge must read."""
    kept: Tensor | None = None
    """Which pixels must stay those of the clip, bool (frames, height, width)."""


@dataclass
class Shelf:
    """Puts pictures and clips where a request may name them."""

    folder: Path
    count: int = field(default=0)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def _next(self, suffix: str) -> Path:
        self.count += 1
        return self.folder / f"trial-{self.count}{suffix}"

    def picture(self, frame: Tensor) -> str:
        """Of uint8 (height, width, 3)."""
        file = self._next(".png")
        Image.fromarray(frame.cpu().numpy()).save(file)
        return str(file)

    def video(self, clip: Tensor) -> str:
        """Of uint8 (frames, height, width, 3)."""
        file = self._next(".mp4")
        height, width = clip.shape[1:3]
        with VideoWriter(file, width=width, height=height, fps=FPS, tags={}) as video:
            video.write(np.ascontiguousarray(clip.cpu().numpy()))
        return str(file)


Make = Callable[[Tensor, Scene, Shelf], Trial]


def from_start(clip: Tensor, scene: Scene, shelf: Shelf) -> Trial:
    media = {"image_start": shelf.picture(clip[0])}
    return Trial(canonical_caption(scene), media, scene, _frames(clip, 0))


def between(clip: Tensor, scene: Scene, shelf: Shelf) -> Trial:
    """The start and the end given, of which the end is held to the clip."""
    media = {
        "image_start": shelf.picture(clip[0]),
        "image_end": shelf.picture(clip[-1]),
    }
    return Trial(canonical_caption(scene), media, scene, _frames(clip, -1))


def anew(clip: Tensor, scene: Scene, shelf: Shelf) -> Trial:
    """The clip in another colour."""
    other = replace(scene, colour=other_colour(scene))
    return Trial(canonical_caption(other), {"source_video": shelf.video(clip)}, other)


def in_hole(clip: Tensor, scene: Scene, shelf: Shelf) -> Trial:
    """Another colour where the thing is; the rest is kept."""
    other = replace(scene, colour=other_colour(scene))
    frames, height, width, _ = clip.shape
    top, bottom, left, right = HOLE
    box = (height * top, height * bottom, width * left, width * right)
    hole = torch.tensor([[0, frames, *(round(edge) for edge in box)]])
    mask = hole_masks(hole, torch.arange(frames), height, width)[0]
    picture = mask[0, ..., None].expand(-1, -1, 3).to(torch.uint8) * 255
    media = {
        "control_video": shelf.video(clip),
        "control_mask": shelf.picture(picture),
    }
    return Trial(canonical_caption(other), media, other, ~mask)


def along_outlines(clip: Tensor, scene: Scene, shelf: Shelf) -> Trial:
    """Outlines to follow, in another colour."""
    other = replace(scene, colour=other_colour(scene))
    media = {"control_video": shelf.video(edges(clip[None])[0])}
    return Trial(canonical_caption(other), media, other)


def as_pictured(clip: Tensor, scene: Scene, shelf: Shelf) -> Trial:
    """A picture says what the prompt leaves out."""
    media = {"image_refs": [shelf.picture(clip[len(clip) // 2])]}
    noun = f"{scene.colour} {scene.shape}"
    prompt = canonical_caption(scene)
    start = prompt.index(noun)
    return Trial(f"a thing{prompt[start + len(noun) :]}", media, scene)


def other_colour(scene: Scene) -> str:
    """One far from the scene's own."""
    half = len(COLOURS) // 2
    return COLOURS[(COLOURS.index(scene.colour) + half) % len(COLOURS)]


def trials_of(variant: ModelVariant) -> dict[str, Make]:
    """What can be asked of a model, by name."""
    needs: list[tuple[str, set[str], Make]] = [
        ("start image", {"image_start"}, from_start),
        ("start and end image", {"image_start", "image_end"}, between),
        ("masked control video", {"control_video", "control_mask"}, in_hole),
        ("outlines", {"control_video"}, along_outlines),
        ("reference image", {"image_refs"}, as_pictured),
    ]
    made = {name: make for name, media, make in needs if media <= variant.media}
    if "source_video" in variant.media and variant.source_video_use == "transform":
        made["source video"] = anew
    return made


def decibels(made: Tensor, wanted: Tensor, where: Tensor | None = None) -> float:
    """PSNR of uint8 videos (frames, height, width, 3), all of it or of some pixels
    (frames, height, width)."""
    error = (made.cpu().float() - wanted.cpu().float()).pow(2).mean(-1)
    chosen = error if where is None else error[where]
    return float(10 * torch.log10(255**2 / chosen.mean().clamp(min=1e-6)))


def _frames(clip: Tensor, number: int) -> Tensor:
    kept = torch.zeros(clip.shape[:3], dtype=torch.bool)
    kept[number] = True
    return kept
