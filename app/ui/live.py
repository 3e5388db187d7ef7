"""Keeps the page true to the store: one timer, and only what changed is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from threading import Lock
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from app.ui import snapshot
from app.ui.gallery_view import PAGE
from app.ui.services import Services
from app.ui.snapshot import Snapshot

QUIET: dict[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
}
"""How the page's own events are bound: at once, unseen, and not part of an API. While
one is being answered, Gradio drops the next of its kind, which is right for a clock."""
PRESSED: dict[str, Any] = {**QUIET, "trigger_mode": "multiple"}
"""For buttons: every press counts, also one that comes before the last is answered."""
CHOSEN: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
"""For fields: what was typed or chosen last counts."""

Updates = dict[Block, Any]


@dataclass
class Session:
    """What one browser tab looks at; everything else lives in the store."""

    key: tuple[Any, ...] | None = None
    sent: int = 0
    """Number of the newest answer that drew something."""
    drawn: dict[str, Any] = field(default_factory=dict)
    notices: dict[str, str] = field(default_factory=dict)
    """What the last action led to, by the part of the page that it belongs to."""
    form_is_used: bool = False
    """Whether the user has filled the form: what else would fill it comes too late."""
    tiles: int = PAGE
    opened: str | None = None
    """File name of the video shown in full."""

    def note(self, part: str, text: str = "") -> None:
        """Say something in one part of the page, and nothing in the others."""
        self.notices = {part: text} if text else {}

    def notice(self, part: str) -> str:
        text = self.notices.get(part, "")
        return f'<p class="notice" role="status">{escape(text)}</p>' if text else ""


@dataclass(frozen=True)
class Panel:
    """A live part of the page. ``draw`` gives an HTML string, or ``gr.update``
    arguments for other components."""

    name: str
    component: Component
    draw: Callable[[Snapshot, Session], str | dict[str, Any]]


@dataclass
class Live:
    """Draws the panels. ``shown`` is a hidden field with the number of the answer that
    the browser took last: an answer that was lost, or overtaken by an older one, is
    noticed by it and made good."""

    services: Services
    session: Component
    shown: Component
    panels: list[Panel] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def add(
        self,
        name: str,
        component: Component,
        draw: Callable[[Snapshot, Session], str | dict[str, Any]],
    ) -> None:
        self.panels.append(Panel(name, component, draw))

    def add_notices(self, part: str) -> None:
        """Make the place where one part of the page says what actions led to."""
        place = gr.HTML("", elem_id=f"{part}-notice", elem_classes=["notice-place"])
        self.add(f"{part}-notice", place, lambda _, session: session.notice(part))

    @property
    def outputs(self) -> list[Component]:
        return [*(panel.component for panel in self.panels), self.session, self.shown]

    def load(self, session: Session) -> Updates:
        """A page that was just opened: draw everything."""
        session.drawn.clear()
        return self.refresh(session)

    def tick(self, session: Session, shown: str) -> Updates:
        """Updates of what changed since the last call, mostly nothing."""
        if shown != str(session.sent):
            return self.load(session)
        if snapshot.key(self.services) == session.key:
            return {self.session: gr.skip()}
        return self.refresh(session)

    def refresh(self, session: Session) -> Updates:
        """Updates of every panel that looks different now."""
        with self.lock:  # so that a higher number is never an older picture
            # The key is taken first: what changes after it is drawn by the next tick.
            session.key = snapshot.key(self.services)
            session.sent += 1
            now = snapshot.take(self.services)
            updates: Updates = {self.session: session, self.shown: str(session.sent)}
            for panel in self.panels:
                drawn = panel.draw(now, session)
                if session.drawn.get(panel.name) != drawn:
                    session.drawn[panel.name] = drawn
                    new = drawn if isinstance(drawn, str) else gr.update(**drawn)
                    updates[panel.component] = new
        return updates
