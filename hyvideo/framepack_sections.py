"""The order in which FramePack makes its sections, and what each sees of the others.

https://arxiv.org/abs/2504.12626. A section is 9 latent frames. The transformer sees
the start image and 19 latent frames of history, the farther away the coarser, however
long the video is: memory doesn't grow with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Order = Literal["inverted", "vanilla"]
"""``inverted``: the end of the video first, then backwards to the start image
("inverted anti-drifting"). ``vanilla``: from the start image on."""

WINDOW = 9
"""Latent frames of a section."""
STRIDE = 4
"""Frames per latent frame."""
SECTION_FRAMES = WINDOW * STRIDE
OVERLAP = (WINDOW - 1) * STRIDE + 1
"""Frames that two pieces have in common when they are decoded."""

NEAR, MIDDLE, FAR = 1, 2, 16
"""Latent frames of history in full, half and quarter resolution."""
HISTORY = NEAR + MIDDLE + FAR


def count_sections(num_frames: int) -> int:
    """Of a video of ``36k + 1`` frames: ``k``."""
    return (num_frames - 1) // SECTION_FRAMES


@dataclass(frozen=True)
class View:
    """What the transformer sees beside a section's own latents: latents (1, channels,
    frames, height, width) and when they are, in latent frames."""

    clean: Tensor
    middle: Tensor
    far: Tensor
    when: Tensor
    when_clean: Tensor
    when_middle: Tensor
    when_far: Tensor

    def arguments(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """As diffusers' transformer names them."""
        return {
            "indices_latents": self.when,
            "latents_clean": self.clean.to(dtype),
            "indices_latents_clean": self.when_clean,
            "latents_history_2x": self.middle.to(dtype),
            "indices_latents_history_2x": self.when_middle,
            "latents_history_4x": self.far.to(dtype),
            "indices_latents_history_4x": self.when_far,
        }


class Sections:
    """The sections of one video, one after the other as they are made."""

    def __init__(
        self, order: Order, count: int, first: Tensor, last: Tensor | None = None
    ) -> None:
        """``first`` and ``last`` are the latents of the start and the end image,
        (1, channels, 1, height, width); an end image is for ``inverted`` only."""
        assert last is None or order == "inverted"
        self._order = order
        self._first, self._last = first, last
        self.count = count
        nothing = torch.zeros_like(first).expand(-1, -1, HISTORY, -1, -1)
        if order == "vanilla":
            nothing = torch.cat([nothing, first], dim=2)
        self._history = self._recent(nothing)

    def places(self) -> Iterator[int]:
        """The place in the video of each section, in the order they are made."""
        forwards = range(self.count)
        yield from reversed(forwards) if self._order == "inverted" else forwards

    def view(self, place: int) -> View:
        """What the section at ``place`` sees when its turn has come."""
        if self._order == "vanilla":
            return self._view_back()
        return self._view_ahead(place)

    def add(self, latents: Tensor) -> None:
        """The section whose turn it was is made."""
        both = [self._history, latents]
        if self._order == "inverted":
            both.reverse()
        self._history = self._recent(torch.cat(both, dim=2))

    def _recent(self, history: Tensor) -> Tensor:
        if self._order == "inverted":
            return history[:, :, :HISTORY]
        return history[:, :, -HISTORY:]

    def _view_ahead(self, place: int) -> View:
        """History lies after the section, with a gap before the start image that
        stands for the sections that aren't made yet."""
        made = self.count - 1 - place
        gap = gaps(self.count)[made] * WINDOW
        parts = [1, gap, WINDOW, NEAR, MIDDLE, FAR]
        prefix, _, when, near, middle, far = _indices(parts)
        seen, seen_middle, seen_far = torch.split(
            self._history, [NEAR, MIDDLE, FAR], dim=2
        )
        if self._last is not None and made == 0:
            seen = self._last
        return View(
            clean=torch.cat([self._first, seen], dim=2),
            middle=seen_middle,
            far=seen_far,
            when=when,
            when_clean=torch.cat([prefix, near]),
            when_middle=middle,
            when_far=far,
        )

    def _view_back(self) -> View:
        parts = [1, FAR, MIDDLE, NEAR, WINDOW]
        prefix, far, middle, near, when = _indices(parts)
        seen_far, seen_middle, seen = torch.split(
            self._history, [FAR, MIDDLE, NEAR], dim=2
        )
        return View(
            clean=torch.cat([self._first, seen], dim=2),
            middle=seen_middle,
            far=seen_far,
            when=when,
            when_clean=torch.cat([prefix, near]),
            when_middle=middle,
            when_far=far,
        )


def _indices(parts: list[int]) -> tuple[Tensor, ...]:
    """Counts up through ``parts`` of these lengths."""
    return torch.split(torch.arange(sum(parts)), parts)


def gaps(count: int) -> list[int]:
    """How many sections lie between each section and the start image, as the model
    is told when it makes them backwards: of many it is told at most three."""
    if count > 4:
        return [3, *[2] * (count - 3), 1, 0]
    return list(reversed(range(count)))


def decoded_together(order: Order, count: int) -> Iterator[slice]:
    """Which latent frames of the whole video are decoded as one piece, in the order of
    the video: each section with its neighbour that was made before it, so that pieces
    overlap by ``OVERLAP`` frames. The first latent frame is the start image."""
    for place in range(count):
        begin = 1 + place * WINDOW
        end = begin + WINDOW
        if order == "inverted":
            end = min(end + WINDOW, 1 + count * WINDOW)
        else:
            begin -= WINDOW
        yield slice(begin if place else 0, end)


def join(pieces: Iterator[Tensor]) -> Iterator[Tensor]:
    """Videos (1, channels, frames, height, width), each of which repeats the last
    ``OVERLAP`` frames of the one before: one video in parts, those frames faded from
    one piece into the next. Never holds more than one piece and an overlap."""
    waiting: Tensor | None = None
    for piece in pieces:
        begin = 0
        if waiting is not None:
            begin = OVERLAP
            weights = torch.linspace(
                1, 0, OVERLAP, dtype=piece.dtype, device=piece.device
            ).view(1, 1, -1, 1, 1)
            yield weights * waiting + (1 - weights) * piece[:, :, :begin]
        end = max(begin, piece.shape[2] - OVERLAP)
        if end > begin:
            yield piece[:, :, begin:end]
        waiting = piece[:, :, end:].clone()
    if waiting is not None and waiting.shape[2]:
        yield waiting
