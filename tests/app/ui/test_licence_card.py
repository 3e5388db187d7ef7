"""The card of a model's licence, and the button on it."""

import gradio as gr
import pytest

from app.ui.licence_card import licence_card
from app.ui.services import Services
from engine.family import get_variant
from engine.licences import ENVIRONMENT, HUNYUAN, accept_licence, accepted_licences
from engine.settings import Settings
from tests.app.ui.conftest import Desk


@pytest.fixture(autouse=True)
def nothing_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def press(desk: Desk, name: str = HUNYUAN.name) -> dict:
    event = gr.EventData(None, {"action": "accept-licence", "licence": name})
    return desk.tab.accept_licence("fake-limited", event)


def test_choosing_a_limited_model_shows_terms_link_and_button(desk: Desk) -> None:
    card = desk.tab.change_model("fake-limited")[desk.tab.form.licence]
    for shown in (HUNYUAN.name, HUNYUAN.limits, f'href="{HUNYUAN.address}"'):
        assert shown in card
    assert ">I accept</button>" in card
    assert desk.tab.change_model("fake-model")[desk.tab.form.licence] == ""


def test_generate_explains_until_the_button_is_pressed(
    desk: Desk, services: Services
) -> None:
    desk.fill(model="fake-limited", prompt="a red square")
    refused = desk.tab.submit(desk.values)
    told = "must have its licence accepted first: press I accept"
    assert desk.reasons(refused) == {"model": f"Model {told}."}
    assert told in refused[desk.tab.form.problems]
    assert HUNYUAN.limits not in refused[desk.tab.form.problems]  # the card has them
    assert services.store.list_jobs() == []

    updates = press(desk)
    assert desk.reasons(updates) == {}
    assert "I accept" not in updates[desk.tab.form.licence]
    assert "Accepted on 20" in updates[desk.tab.form.licence]
    assert list(accepted_licences(services.settings)) == [HUNYUAN.name]
    assert desk.reasons(desk.tab.submit(desk.values)) == {}
    assert len(services.store.list_jobs()) == 1


def test_what_cant_be_stored_is_told_at_the_model(
    desk: Desk, services: Services
) -> None:
    services.settings.root.mkdir(parents=True, exist_ok=True)
    (services.settings.root / "settings").write_text("in the way")
    updates = press(desk)
    assert "Can't write" in desk.reasons(updates)["model"]
    assert "I accept" in updates[desk.tab.form.licence]


def test_limits_that_need_no_acceptance_are_a_note(settings: Settings) -> None:
    card = licence_card(get_variant("ltxv-13b-0.9.7-distilled"), settings)
    assert "10 million US dollars" in card
    assert "button" not in card
    assert licence_card(get_variant("wan-demo"), settings) == ""


@pytest.mark.usefixtures("use_fake_family")
def test_a_broken_file_of_acceptances_is_told_on_the_card(settings: Settings) -> None:
    accept_licence(HUNYUAN.name, settings)
    settings.licences.write_text("{")
    card = licence_card(get_variant("fake-limited"), settings)
    assert "Can&#x27;t read which licences were accepted" in card
