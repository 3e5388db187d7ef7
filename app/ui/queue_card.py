"""The queue on the page: its rows, and pause, clear, save and restore."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from app.ui.live import CHOSEN, PRESSED, Live, Session, Updates
from app.ui.markup import ON_ACTION
from app.ui.progress import count, progress_card
from app.ui.queue_rows import act, queue_rows, queue_title
from app.ui.services import Services
from app.ui.snapshot import Snapshot
from engine.errors import UserError
from engine.queue import archive
from engine.queue.job import JobStatus

CLICK_SAVED = "() => document.querySelector('#queue-file').click()"


class QueueCard:
    """Builds the card of the running job and the queue; binds their buttons."""

    def __init__(self, services: Services, live: Live) -> None:
        self.services = services
        self.live = live
        self.running = gr.HTML("", js_on_load=ON_ACTION, elem_id="progress")

    def build_queue(self) -> None:
        with gr.Column(elem_id="queue", elem_classes=["panel"]):
            with gr.Row(elem_id="queue-bar"):
                title = gr.HTML("<h2>Queue</h2>", elem_id="queue-title")
                self.pause = _button("Pause", "queue-pause")
                self.clear = _button("Clear", "queue-clear")
                self.save = _button("Save", "queue-save")
                self.upload = gr.UploadButton(
                    "Restore",
                    file_types=[".zip"],
                    size="sm",
                    scale=0,
                    min_width=70,
                    elem_id="queue-restore",
                )
            self.live.add_notices("queue")
            self.rows = gr.HTML("", js_on_load=ON_ACTION, elem_id="queue-rows")
            self.file = gr.DownloadButton(
                "Saved queue", visible="hidden", elem_id="queue-file"
            )
        self.live.add("running", self.running, lambda now, _: progress_card(now))
        self.live.add("title", title, lambda now, _: queue_title(now))
        self.live.add(
            "rows", self.rows, lambda now, _: queue_rows(now, self.services.settings)
        )
        self.live.add("pause", self.pause, lambda now, _: _pause_label(now))
        self.live.add("clear", self.clear, lambda now, _: _only_if(now.queued))
        self.live.add("save", self.save, lambda now, _: _only_if(now.queued))

    def wire(self) -> None:
        session, outputs = self.live.session, self.live.outputs
        for listed in (self.running, self.rows):
            listed.act(self.on_act, inputs=session, outputs=outputs, **PRESSED)
        self.pause.click(self.on_pause, inputs=session, outputs=outputs, **PRESSED)
        self.clear.click(self.on_clear, inputs=session, outputs=outputs, **PRESSED)
        self.save.click(
            self.on_save, inputs=session, outputs=[self.file, *outputs], **PRESSED
        ).success(None, js=CLICK_SAVED)
        self.upload.upload(
            self.on_restore,
            inputs=[self.upload, session],
            outputs=[self.upload, *outputs],
            **CHOSEN,
        )

    def on_act(self, session: Session, event: gr.EventData) -> Updates:
        data = event._data or {}
        try:
            act(self.services.store, str(data["action"]), str(data["job"]))
            session.note("queue")
        except UserError as error:
            session.note("queue", str(error))
        return self.live.refresh(session)

    def on_pause(self, session: Session) -> Updates:
        store = self.services.store
        try:
            if store.is_paused():
                store.resume()
            else:
                store.pause()
        except UserError as error:
            session.note("queue", str(error))
        return self.live.refresh(session)

    def on_clear(self, session: Session) -> Updates:
        try:
            number = count(self.services.store.clear(), "video", "videos")
            session.note("queue", f"Took {number} off the queue.")
        except UserError as error:
            session.note("queue", str(error))
        return self.live.refresh(session)

    def on_save(self, session: Session) -> Updates:
        store, settings = self.services.store, self.services.settings
        jobs = store.list_jobs(JobStatus.running, JobStatus.queued)
        file = Path(tempfile.mkdtemp(dir=self.services.uploads)) / "queue.zip"
        try:
            archive.save(jobs, file, settings.root)
        except UserError as error:
            session.note("queue", str(error))
            return {**self.live.refresh(session), self.file: None}
        number = count(len(jobs), "video", "videos")
        session.note("queue", f"Saved {number} to queue.zip.")
        return {**self.live.refresh(session), self.file: str(file)}

    def on_restore(self, file: str, session: Session) -> Updates:
        try:
            jobs = archive.restore(
                Path(file), self.services.store, self.services.settings
            )
            number = count(len(jobs), "video", "videos")
            session.note("queue", f"Put {number} back on the queue.")
        except UserError as error:
            session.note("queue", str(error))
        return {**self.live.refresh(session), self.upload: None}


def _button(label: str, elem_id: str) -> Any:
    return gr.Button(label, size="sm", scale=0, min_width=70, elem_id=elem_id)


def _pause_label(now: Snapshot) -> dict[str, Any]:
    return {"value": "Resume" if now.paused else "Pause"}


def _only_if(jobs: list[Any]) -> dict[str, Any]:
    return {"interactive": bool(jobs)}
