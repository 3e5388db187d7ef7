"""A licence that must be accepted: shown, asked for, and remembered."""

import json

from playwright.sync_api import Page, expect

from engine.licences import HUNYUAN
from tests.browser.conftest import Shoot
from tests.browser.driver import RunningApp, generate, open_page
from tests.fakes import LIMITED


def choose_limited(page: Page) -> None:
    page.locator("#field-model input").click()
    page.get_by_role("option", name=LIMITED.title).click()


def test_accepting_on_the_card_lets_generate_go_on(
    page: Page, app: RunningApp, shoot: Shoot
) -> None:
    card = page.locator("#licence")
    expect(card).to_be_hidden()
    choose_limited(page)
    expect(card).to_contain_text("European Union, the United Kingdom and South Korea")
    expect(card.get_by_role("link")).to_have_attribute("target", "_blank")

    page.locator("#field-prompt textarea").fill("a red square")
    page.locator("#generate").click()
    marked = page.locator("#field-model.invalid")
    expect(marked).to_contain_text("must have its licence accepted first")
    expect(page.get_by_text(HUNYUAN.limits)).to_have_count(1)
    expect(page.get_by_role("option")).to_have_count(0)
    shoot("asks")
    expect(page.locator("#queue-rows .job")).to_have_count(0)

    card.get_by_role("button", name="I accept").click()
    expect(card).to_contain_text("Accepted on")
    expect(page.locator(".invalid")).to_have_count(0)
    expect(page.locator("#problems .problems")).to_have_count(0)
    stored = json.loads((app.root / "settings" / "licences.json").read_text())
    assert list(stored) == [LIMITED.licence]
    generate(page, "a blue square")

    open_page(page, app)
    expect(page.locator("#licence")).to_contain_text("Accepted on")
    shoot("accepted")
