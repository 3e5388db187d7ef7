"""Checks of models on the disk, in threads beside everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine.downloads import nobody
from engine.errors import Cancelled
from engine.loading.inventory import Stock, Verdict, bytes_to_verify, verify


@dataclass
class Check:
    """How far a check is."""

    total: int
    """Bytes."""
    done: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def count(self, size: int) -> None:
        self.done += size
        if self.stop.is_set():
            raise Cancelled("nobody wants the check any more")


class Checks:
    """``on_change`` is called, in any thread, when a check begins or ends."""

    def __init__(self, on_change: Callable[[], None] = nobody) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._running: dict[str, Check] = {}
        self._verdicts: dict[str, Verdict | str] = {}

    def start(self, stock: Stock) -> None:
        """Unless it runs already."""
        model = stock.variant.id
        with self._lock:
            if model in self._running:
                return
            check = self._running[model] = Check(bytes_to_verify(stock))
            self._verdicts.pop(model, None)
        threading.Thread(
            target=self._run, args=(stock, check), name="check", daemon=True
        ).start()

    def cancel(self, model: str) -> None:
        with self._lock:
            if model in self._running:
                self._running[model].stop.set()

    def running(self) -> dict[str, Check]:
        with self._lock:
            return dict(self._running)

    def verdicts(self) -> dict[str, str]:
        """Model → what its last check has found."""
        with self._lock:
            return {model: str(said) for model, said in self._verdicts.items()}

    def damaged(self, model: str) -> tuple[Path, ...]:
        """The files of ``model`` that its last check has found damaged."""
        with self._lock:
            said = self._verdicts.get(model)
        return said.damaged if isinstance(said, Verdict) else ()

    def forget(self, model: str) -> None:
        """Its files are others now."""
        with self._lock:
            self._verdicts.pop(model, None)

    def _run(self, stock: Stock, check: Check) -> None:
        said: Verdict | str = "the check ended in an unexpected error"
        try:
            said = verify(stock, check.count)
        except Cancelled:
            said = "the check was cancelled"
        except OSError as error:
            said = f"{error.filename} can't be read: {error.strerror}"
        finally:
            with self._lock:
                self._running.pop(stock.variant.id, None)
                self._verdicts[stock.variant.id] = said
            self._on_change()
