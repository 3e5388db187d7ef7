"""One timer keeps a page true to the store."""

import gradio as gr

from app.ui.live import Live, Session
from app.ui.progress import generate_label, progress_card
from app.ui.services import Services
from engine.request import GenerationRequest

REQUEST = GenerationRequest(model="fake-model", prompt="p")


def build(services: Services) -> Live:
    with gr.Blocks():
        live = Live(services, gr.State(Session()))
        live.add("card", gr.HTML(), lambda now, _: progress_card(now))
        live.add("button", gr.Button(), lambda now, _: {"value": generate_label(now)})
    return live


def test_tick_sends_only_what_changed(services: Services, one_event_loop: None) -> None:
    live, session = build(services), Session()
    card, button = (panel.component for panel in live.panels)
    first = live.load(session)
    assert first[button]["value"] == "Generate"
    assert set(live.tick(session)) == {live.session}

    services.store.pause()
    services.store.add([REQUEST])
    second = live.tick(session)
    assert "Paused" in second[card]
    assert second[button]["value"] == "Add to queue (1 ahead)"

    services.store.add([REQUEST])
    services.store.clear()
    third = live.tick(session)
    assert third[button]["value"] == "Generate"
    assert set(live.tick(session)) == {live.session}


def test_reload_draws_everything_again(
    services: Services, one_event_loop: None
) -> None:
    live, session = build(services), Session()
    live.load(session)
    assert set(live.load(session)) == {live.session, *live.outputs}


def test_two_pages_each_get_the_change(
    services: Services, one_event_loop: None
) -> None:
    live, one, other = build(services), Session(), Session()
    live.load(one)
    live.load(other)
    services.store.pause()
    services.store.add([REQUEST])
    assert len(live.tick(one)) == len(live.tick(other)) == 3
