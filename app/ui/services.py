"""What the page's handlers work with. They only read these, add to the store, and ask
for downloads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from app.ui.gallery import Gallery
from engine.checks import Checks
from engine.downloads import Downloads
from engine.family import ModelVariant
from engine.queue.job import JobStore
from engine.settings import Settings


@dataclass(frozen=True)
class Services:
    settings: Settings
    store: JobStore
    gallery: Gallery
    downloads: Downloads
    uploads: Path
    """Where the browser's uploads arrive."""
    worker_status: Callable[[], str]
    """One sentence: idle, starting, running, restarting and why."""
    missing: Callable[[ModelVariant], str | None]
    """Why a model can't run yet; ``None`` when its files are here."""
    checks: Checks = field(default_factory=Checks)
