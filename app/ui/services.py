"""What the page's handlers work with. They only read these and add to the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.ui.gallery import Gallery
from engine.family import ModelVariant
from engine.queue.job import JobStore
from engine.settings import Settings


@dataclass(frozen=True)
class Services:
    settings: Settings
    store: JobStore
    gallery: Gallery
    uploads: Path
    """Where the browser's uploads arrive."""
    worker_status: Callable[[], str]
    """One sentence: idle, starting, running, restarting and why."""
    missing: Callable[[ModelVariant], str | None]
    """Why a model can't run yet; ``None`` when its files are here."""
