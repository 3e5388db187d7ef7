"""The page's parts on a store of their own, with the fake family."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.ui.form import Form
from app.ui.form_layout import build_form
from app.ui.gallery import Gallery
from app.ui.generate_tab import GenerateTab
from app.ui.live import Live, Session
from app.ui.services import Services
from engine.downloads import Downloads
from engine.queue.store import SqliteJobStore
from engine.settings import Settings
from tests.fakes import VARIANT


@pytest.fixture
def services(
    settings: Settings, use_fake_family: None, tmp_path: Path
) -> Iterator[Services]:
    settings.outputs.mkdir(parents=True)
    store = SqliteJobStore(tmp_path / "queue.sqlite")
    yield Services(
        settings=settings,
        store=store,
        gallery=Gallery(settings.outputs),
        downloads=Downloads(settings),
        uploads=tmp_path / "uploads",
        worker_status=lambda: "idle",
        missing=lambda variant: None,
    )
    store.close()


@dataclass
class Desk:
    """The form as a handler sees it: what stands in each field."""

    tab: GenerateTab
    session: Session
    values: dict[Any, Any]

    def fill(self, **fields: Any) -> None:
        for name, value in fields.items():
            self.values[self.tab.form.fields[name]] = value

    def shown(self, updates: dict[Any, Any]) -> dict[str, Any]:
        """The values that ``updates`` put into the form's fields."""
        return {
            name: updates[component]["value"]
            for name, component in self.tab.form.fields.items()
            if "value" in updates.get(component, {})
        }

    def reasons(self, updates: dict[Any, Any]) -> dict[str, str]:
        """What is written at each field that is marked as invalid."""
        return {
            name: updates[component].get("info", "")
            for name, component in self.tab.form.fields.items()
            if "invalid" in updates[component]["elem_classes"]
        }


@pytest.fixture
def one_event_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """gradio makes several event loops for each page and closes none of them."""
    loop = asyncio.new_event_loop()
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def desk(services: Services, one_event_loop: None) -> Desk:
    with gr.Blocks():
        form = Form(services.missing, services.settings)
        build_form(form, VARIANT)
        live = Live(services, gr.State(Session()), gr.Textbox())
        tab = GenerateTab(services, form, live, gr.File())
    session = Session()
    values = {component: component.value for component in form.inputs}
    made = Desk(tab, session, {**values, live.session: session})
    made.fill(model="fake-model")
    return made
