"""Reads a zip file that a stranger may have made: nothing in it is trusted."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import UnreadableFile

MOST_ENTRIES = 10_000
MOST_BYTES = 4 << 30
"""What all entries may take when they are unpacked."""

MOST_RATIO = 100
"""So many times larger may an entry become; only bombs grow more."""

SMALL = 16 << 20
"""Bytes up to which the ratio says nothing."""

BLOCK = 1 << 20
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,  # a place in the file that can't be
    ValueError,
)
"""What ``zipfile`` raises for files that are damaged."""


class ZipReader:
    """An open zip file whose entries are all fit to be read; see ``open_zip``."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.name = name
        self._archive = archive
        self._entries = {info.filename: info for info in archive.infolist()}
        self._bytes_left = MOST_BYTES

    def __contains__(self, entry: str) -> bool:
        return entry in self._entries

    def blocks(self, entry: str) -> Iterator[bytes]:
        """The content of ``entry``, piece by piece.

        Raises ``UnreadableFile`` when it is missing, damaged or too large.
        """
        if entry not in self:
            raise UnreadableFile(f"{self.name} isn't a saved queue: it has no {entry}")
        try:
            with self._archive.open(self._entries[entry]) as content:
                while block := content.read(BLOCK):
                    self._bytes_left -= len(block)
                    if self._bytes_left < 0:
                        raise _too_large(self.name)
                    yield block
        except BROKEN as error:
            raise UnreadableFile(
                f"{entry} in {self.name} is damaged: {error}"
            ) from error


@contextmanager
def open_zip(file: Path, names: re.Pattern[str]) -> Iterator[ZipReader]:
    """Open ``file``, whose entries must all have names that match ``names`` whole.

    Raises ``UnreadableFile`` that says what is wrong with it, and with which entry.
    """
    try:
        opened = file.open("rb")
    except OSError as error:
        raise UnreadableFile(f"can't read {file}: {error.strerror}") from error
    with opened:
        try:
            archive = zipfile.ZipFile(opened)
        except BROKEN as error:
            raise UnreadableFile(
                f"{file.name} isn't a saved queue: it isn't a zip file, or not a whole "
                "one"
            ) from error
        with archive:
            _check(archive, file.name, names)
            yield ZipReader(archive, file.name)


def _check(archive: zipfile.ZipFile, name: str, names: re.Pattern[str]) -> None:
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise UnreadableFile(
            f"{name} has {len(entries)} entries; a saved queue has at most "
            f"{MOST_ENTRIES}"
        )
    seen = set()
    for info in entries:
        problem = _problem(info, names)
        if info.filename in seen:
            problem = "is there twice"
        if problem:
            raise UnreadableFile(
                f"{name} isn't a saved queue: {info.filename[:100]!r} {problem}"
            )
        seen.add(info.filename)
    if sum(info.file_size for info in entries) > MOST_BYTES:
        raise _too_large(name)


def _problem(info: zipfile.ZipInfo, names: re.Pattern[str]) -> str:
    if not names.fullmatch(info.filename):
        return "doesn't belong into one"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & 1:
        return "is encrypted; save the queue without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in a way that a saved queue isn't"
    if info.file_size > max(SMALL, MOST_RATIO * info.compress_size):
        return f"would unpack to {info.file_size} bytes, which can't be right"
    return ""


def _too_large(name: str) -> UnreadableFile:
    return UnreadableFile(f"{name} would unpack to more than {MOST_BYTES >> 30} GiB")
