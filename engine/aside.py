"""Small files that are whole at any moment, whoever else writes or reads them."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path


def write_aside(file: Path, text: str) -> None:
    """Write ``text`` beside ``file``, which it then becomes; folders are made.

    Raises ``OSError``; then nothing has changed.
    """
    part = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
