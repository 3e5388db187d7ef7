"""One timer keeps a page true to the store."""

import gradio as gr

from app.ui.live import Live, Session, Updates
from app.ui.progress import generate_label, progress_card
from app.ui.services import Services
from engine.request import GenerationRequest

REQUEST = GenerationRequest(model="fake-model", prompt="p")


def build(services: Services) -> Live:
    with gr.Blocks():
        live = Live(services, gr.State(Session()), gr.Textbox())
        live.add("card", gr.HTML(), lambda now, _: progress_card(now))
        live.add("button", gr.Button(), lambda now, _: {"value": generate_label(now)})
    return live


def tick(live: Live, session: Session) -> Updates:
    """From a browser that took the last answer."""
    return live.tick(session, str(session.sent))


def test_tick_sends_only_what_changed(services: Services, one_event_loop: None) -> None:
    live, session = build(services), Session()
    card, button = (panel.component for panel in live.panels)
    first = live.load(session)
    assert first[button]["value"] == "Generate"
    assert set(tick(live, session)) == {live.session}

    services.store.pause()
    services.store.add([REQUEST])
    second = tick(live, session)
    assert "Paused" in second[card]
    assert second[button]["value"] == "Add to queue (1 ahead)"

    services.store.add([REQUEST])
    services.store.clear()
    third = tick(live, session)
    assert third[button]["value"] == "Generate"
    assert set(tick(live, session)) == {live.session}


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
    assert len(tick(live, one)) == len(tick(live, other)) == 4


def test_an_answer_that_was_lost_or_overtaken_is_made_good(
    services: Services, one_event_loop: None
) -> None:
    live, session = build(services), Session()
    card = live.panels[0].component
    older = live.load(session)[live.shown]
    services.store.pause()
    services.store.add([REQUEST])
    assert "Paused" in tick(live, session)[card]
    again = live.tick(session, older)
    assert "Paused" in again[card]
    assert set(live.tick(session, again[live.shown])) == {live.session}
