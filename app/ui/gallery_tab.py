"""The gallery on the page: tiles, one video in full, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.ui.gallery_view import PAGE, detail, tiles
from app.ui.generate_tab import GenerateTab
from app.ui.live import PRESSED, Live, Session, Updates
from app.ui.markup import ON_ACTION
from app.ui.media_files import STEPS_ON, ready_taker
from app.ui.services import Services
from app.ui.snapshot import Snapshot
from engine.errors import UserError
from engine.events import Saved
from engine.outputs import Output

GONE_ON = {
    "source_video": "Write what happens next, then press Generate.",
    "image_start": "Write what happens from its last frame on, then press Generate.",
}


class GalleryTab:
    """Builds the tab and binds its buttons and those below the player."""

    def __init__(self, services: Services, live: Live) -> None:
        self.services = services
        self.gallery = services.gallery
        self.live = live

    def build(self) -> None:
        self.live.add_notices("gallery")
        self.detail = gr.HTML("", js_on_load=ON_ACTION, elem_id="detail")
        self.tiles = gr.HTML("", js_on_load=ON_ACTION, elem_id="tiles")
        self.live.add("detail", self.detail, self._draw_detail)
        self.live.add(
            "tiles", self.tiles, lambda now, session: tiles(now.outputs, session.tiles)
        )

    def wire(self, create: GenerateTab, tabs: gr.Tabs, player: gr.HTML) -> None:
        def on_act(session: Session, model: str, event: gr.EventData) -> Updates:
            data = event._data or {}
            action, name = str(data.get("action")), str(data.get("name"))
            updates: Updates = {}
            if action == "use":
                updates = self._use(create, tabs, name, session)
            elif action == "go-on":
                updates = self._go_on(create, tabs, data, session, model)
            else:
                self._browse(action, name, session)
            return {**updates, **self.live.refresh(session)}

        for listed in (self.tiles, self.detail, player):
            listed.act(
                on_act,
                inputs=[self.live.session, create.form.fields["model"]],
                outputs=[*create.form.outputs, *self.live.outputs, tabs],
                **PRESSED,
            )

    def _use(
        self, create: GenerateTab, tabs: gr.Tabs, name: str, session: Session
    ) -> Updates:
        output = self.gallery.find(name)
        if output is None or output.request is None:
            session.note("gallery", f"{name} is gone, or carries no settings.")
            return {}
        try:
            updates = create.show(output.request)
        except UserError as error:
            session.note("gallery", str(error))
            return {}
        session.form_is_used = True
        session.note("form", "The form shows that video's settings.")
        return {**updates, tabs: gr.update(selected="create")}

    def _go_on(
        self,
        create: GenerateTab,
        tabs: gr.Tabs,
        data: Mapping[str, Any],
        session: Session,
        model: str,
    ) -> Updates:
        """Continue a video, or start from its last frame."""
        output, how = self.gallery.find(str(data["name"])), str(data["how"])
        if output is None or how not in STEPS_ON:
            session.note("gallery", f"{data['name']} is gone.")
            return {}
        try:
            updates = create.go_on(output, how, model)
        except UserError as error:
            session.note("gallery", str(error))
            return {}
        session.form_is_used = True
        session.note("form", GONE_ON[how])
        return {**updates, tabs: gr.update(selected="create")}

    def _browse(self, action: str, name: str, session: Session) -> None:
        if action == "open":
            session.opened = name
        elif action == "close":
            session.opened = None
        elif action == "more":
            session.tiles += PAGE
        elif action == "delete":
            try:
                self.gallery.delete(name)
                session.note("gallery", f"{name} is deleted.")
            except UserError as error:
                session.note("gallery", str(error))
            session.opened = None

    def _draw_detail(self, now: Snapshot, session: Session) -> str:
        opened = next(
            (each for each in now.outputs if each.path.name == session.opened), None
        )
        if opened is None:
            return ""
        ways = frozenset(how for how in STEPS_ON if ready_taker(how, self.services))
        return detail(opened, self._saved(now, opened), ways)

    def _saved(self, now: Snapshot, output: Output) -> Saved | None:
        """How its job ended, ``None`` when that is forgotten."""
        made = (job for job in now.ended if job.output == str(output.path))
        job = next(made, None)
        if job is None:
            return None
        try:
            events = self.services.store.events(job.id)
        except UserError:  # removed since
            return None
        return next((each for each in events if isinstance(each, Saved)), None)
