"""What is known of the files of one network: whose names its weights have, which of
diffusers' converters renames them, and what their shapes say of the network's size.

Converters only see numbered rows here. What they return tells for each row of the
network's weights which row of the file it is, also where a weight is cut into several
or put together in another order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MOST_BLOCKS = 500

Shapes = Mapping[str, tuple[int, ...]]
"""Name in the file → shape."""


@dataclass(frozen=True)
class Rows:
    """Rows ``start`` to ``stop`` of a weight's first dimension."""

    name: str
    """In the file."""
    start: int
    stop: int


Sources = dict[str, tuple[Rows, ...]]
"""Name in the network → where its rows come from, in order."""


@dataclass(frozen=True)
class Layout:
    """What is known of the files of one class."""

    title: str
    family: str
    """Whose network it is; empty where several families share it."""
    component: str
    """What a model's row calls it."""
    mark: str
    """A name, or a part of one, that only files in its authors' names have; empty
    where those are the network's own names too."""
    own_mark: str
    """The same for files in the network's own names."""
    rename: Callable[[Shapes], Sources]
    """For files in its authors' names."""
    config: Callable[[Shapes], dict[str, Any]]
    """From shapes by the network's own names; ``KeyError`` when they are not its."""
    prefixes: tuple[str, ...] = ()
    """Before all of its names, when the file may hold other networks too."""
    left_out: tuple[str, ...] = ()
    """Beginnings of names in the file that the network has no use for."""


def whole(shapes: Shapes) -> Sources:
    """Every weight under its own name."""
    return {name: (Rows(name, 0, rows_of(shape)),) for name, shape in shapes.items()}


def renamed(shapes: Shapes, rename: Callable[[str], str]) -> Sources:
    """Every weight whole, under a new name."""
    sources = whole(shapes)
    return {rename(name): rows for name, rows in sources.items()}


def convert(converter: str, rows: dict[str, torch.Tensor], shapes: Shapes) -> Sources:
    """Run one of diffusers' converters on what ``number_rows`` made of ``shapes``."""
    from diffusers.loaders import single_file_utils

    names = [name for name, shape in shapes.items() if rows_of(shape)]
    starts = list(accumulate((rows_of(shapes[name]) for name in names), initial=0))
    converted = getattr(single_file_utils, converter)(dict(rows))
    return {new: _pieces(each, names, starts) for new, each in converted.items()}


def number_rows(shapes: Shapes) -> dict[str, torch.Tensor]:
    """For each weight the numbers of its rows, int64 (rows,), counted through all of
    them. A row of -1 is none: it may be put in where a converter counts on more, and
    further columns where it counts on them."""
    import torch

    numbered, total = {}, 0
    for name, shape in shapes.items():
        numbered[name] = torch.arange(total, total + rows_of(shape))
        total += rows_of(shape)
    return numbered


def rows_of(shape: tuple[int, ...]) -> int:
    """A single number counts as one row."""
    return shape[0] if shape else 1


def _pieces(
    rows: torch.Tensor, names: list[str], starts: list[int]
) -> tuple[Rows, ...]:
    if rows.ndim > 1:  # as wide as a converter wants it
        rows = rows[:, 0]
    rows = rows[rows >= 0]
    if not len(rows):
        return ()
    breaks = (rows.diff() != 1).nonzero().flatten().tolist()
    firsts = [0, *(index + 1 for index in breaks)]
    lasts = [*breaks, len(rows) - 1]
    pieces = []
    for first, last in zip(firsts, lasts, strict=True):
        begin, end = int(rows[first]), int(rows[last])
        while begin <= end:  # rows of two weights may follow one another
            index = bisect_right(starts, begin) - 1
            stop = min(end + 1, starts[index + 1])
            piece = Rows(names[index], begin - starts[index], stop - starts[index])
            pieces.append(piece)
            begin = stop
    return tuple(pieces)


def count_blocks(shapes: Shapes, prefix: str) -> int:
    """How many numbered blocks there are below ``prefix``. Raises ``ValueError`` for
    more than any network has, of which each would be made."""
    numbers = {
        name.removeprefix(prefix).split(".")[0]
        for name in shapes
        if name.startswith(prefix)
    }
    if len(numbers) > MOST_BLOCKS:
        raise ValueError(f"{len(numbers)} blocks below {prefix}")
    return len(numbers)


def nothing(_shapes: Shapes) -> dict[str, Any]:
    """Shapes don't tell all; what is published is the class's default, or stands in
    the model's row."""
    return {}
