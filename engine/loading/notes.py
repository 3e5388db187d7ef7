"""Hashes of files outside of the hub's cache, noted beside them when they came."""

from __future__ import annotations

import time
from pathlib import Path, PurePosixPath

from engine.loading.hub import RemoteFile

NOTES = Path(".cache", "huggingface", "download")
"""Where the hub's own client notes what it has put into a folder."""

SUMS = "SHA256SUMS"
"""As ``sha256sum`` writes it; the models that come with the app have one."""


def note_digest(file: RemoteFile, place: Path, digest: str) -> None:
    """Note the hash of ``file``, which lies at ``place`` now, as the hub's client does
    for folders that it has filled."""
    base = place.parents[len(PurePosixPath(file.path).parts) - 1]
    note = base / NOTES / f"{file.path}.metadata"
    note.parent.mkdir(parents=True, exist_ok=True)
    lines = (file.commit or "0" * 40, digest, str(time.time()))
    note.write_text("\n".join(lines) + "\n", encoding="utf-8")


def find_note(place: Path) -> Path | None:
    """The note about ``place``."""
    notes = (
        base / NOTES / f"{place.relative_to(base)}.metadata" for base in place.parents
    )
    return next((note for note in notes if note.is_file()), None)


def noted_digest(place: Path) -> str | None:
    """The hash that ``place`` had when it came."""
    if (note := find_note(place)) is not None:
        lines = note.read_text(encoding="utf-8").splitlines()
        return lines[1].strip() if len(lines) > 1 else None
    for base in place.parents:
        if (base / SUMS).is_file():
            return _sums(base / SUMS).get(place.relative_to(base).as_posix())
    return None


def _sums(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    return {pair[1].removeprefix("*"): pair[0] for pair in pairs if len(pair) > 1}
