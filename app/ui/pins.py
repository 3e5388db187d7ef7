"""Pinned media in the form: files, and a table that says where each is shown.

The table has one row per file, in the files' order: name, frame, strength. On the page
a row is a pair of number fields, because a ``gr.Dataframe`` loses what is typed fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FREE_FRAMES = (0, -1, *range(8, 10_000, 8))
"""Where a file that was just added goes: the first of these that isn't taken."""

Row = list[Any]


def rows_for(files: Sequence[str] | None, table: Sequence[Sequence[Any]]) -> list[Row]:
    """A row for each file: as it was in ``table`` if the file was there before."""
    before = [list(row) for row in table if row and row[0]]
    rows: list[Row | None] = []
    for name in _names(files or ()):
        known = next((row for row in before if row[0] == name), None)
        if known is not None:
            before.remove(known)
        rows.append(known)
    taken = {row[1] for row in rows if row is not None}
    free = (frame for frame in FREE_FRAMES if frame not in taken)
    names = _names(files or ())
    return [
        [name, next(free), 1.0] if row is None else row
        for name, row in zip(names, rows, strict=True)
    ]


def conditions(
    files: Sequence[str] | None, table: Sequence[Sequence[Any]]
) -> list[dict[str, Any]]:
    """What a request says of the files; cells that are empty are left out."""
    return [
        {"file": file, **_number("frame_index", row[1]), **_number("strength", row[2])}
        for file, row in zip(files or (), rows_for(files, table), strict=True)
    ]


def files_and_rows(
    conditions: Sequence[Mapping[str, Any]],
) -> tuple[list[str], list[Row]]:
    """The opposite of ``conditions``."""
    files = [str(each["file"]) for each in conditions]
    rows = [
        [name, each.get("frame_index"), each.get("strength", 1.0)]
        for name, each in zip(_names(files), conditions, strict=True)
    ]
    return files, rows


def _names(files: Sequence[str]) -> list[str]:
    return [Path(file).name for file in files]


def _number(field: str, cell: object) -> dict[str, object]:
    """The cell as the request's value; a browser sends 8.0 for 8."""
    if cell is None:
        return {}
    if isinstance(cell, float) and cell.is_integer():
        return {field: int(cell)}
    return {field: cell}
