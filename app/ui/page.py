"""The page: layout, and which event reaches which handler."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.ui.form import Form
from app.ui.form_layout import build_form
from app.ui.gallery_tab import GalleryTab
from app.ui.generate_tab import GenerateTab
from app.ui.live import QUIET, Live, Session, Updates
from app.ui.markup import ON_ACTION
from app.ui.models_tab import ModelsTab
from app.ui.progress import generate_label, player
from app.ui.queue_card import QueueCard
from app.ui.services import Services
from engine.catalogue import all_models

REDRAW_SECONDS = 1.0
HEADER = """
<header class="top">
  <span class="brand"><i></i>wgp</span>
  <span class="tagline">Make videos from words on your own computer</span>
  <button type="button" class="act icon" data-theme-switch
    title="Light or dark" aria-label="Light or dark">◐</button>
</header>
"""


def build_page(services: Services) -> gr.Blocks:
    """The page of one copy of the app. It is drawn anew from the store for every
    visitor, so that a reload or a second tab shows the same."""
    form = Form(services.missing, services.settings)
    page: gr.Blocks
    with gr.Blocks(
        title="wgp",
        analytics_enabled=False,
        delete_cache=(3600, 86400),
        fill_width=True,
    ) as page:
        gr.HTML(HEADER)
        shown = gr.Textbox(visible="hidden", elem_id="shown")
        live = Live(services, gr.State(Session()), shown)
        models = ModelsTab(services, live)
        with gr.Tabs(selected="create", elem_id="tabs") as tabs:
            with gr.Tab("Create", id="create"), gr.Row(elem_id="create"):
                with gr.Column(scale=5, min_width=300, elem_id="form"):
                    generate, drop = _build_left(form, live)
                with gr.Column(scale=6, min_width=300, elem_id="stage"):
                    queue = QueueCard(services, live)
                    models.build_downloads()
                    newest = gr.HTML("", js_on_load=ON_ACTION, elem_id="player")
                    queue.build_queue()
            with gr.Tab("Gallery", id="gallery"):
                gallery = GalleryTab(services, live)
                gallery.build()
            with gr.Tab("Models", id="models-tab"):
                models.build()
        live.add("player", newest, lambda now, _: player(now))
        live.add("generate", generate, lambda now, _: {"value": generate_label(now)})
        create = GenerateTab(services, form, live, drop)
        create.wire(generate)
        queue.wire()
        models.wire()
        gallery.wire(create, tabs, newest)
        _wire_clock(page, live, create)
    return page


def _build_left(form: Form, live: Live) -> tuple[gr.Button, gr.File]:
    build_form(form, next(iter(all_models(form.settings).values())))
    live.add_notices("form")
    generate = gr.Button("Generate", variant="primary", size="lg", elem_id="generate")
    with gr.Accordion("Settings from a finished video", open=False, elem_id="restore"):
        drop = gr.File(
            label="Drop a video or a request in JSON",
            file_types=[".mp4", ".json"],
            height=140,
            elem_id="drop",
        )
    return generate, drop


def _wire_clock(page: gr.Blocks, live: Live, create: GenerateTab) -> None:
    def load(session: Session) -> Updates:
        return {**create.begin(session), **live.load(session)}

    both: dict[str, Any] = {
        "inputs": live.session,
        "outputs": [*create.form.outputs, *live.outputs],
    }
    page.load(load, **both, **QUIET)
    gr.Timer(REDRAW_SECONDS).tick(
        live.tick,
        inputs=[live.session, live.shown],
        outputs=live.outputs,
        **QUIET,
    )
