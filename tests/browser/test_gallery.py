"""The gallery: finished videos, their settings, and taking one away."""

from playwright.sync_api import Page, expect

from tests.browser.conftest import Shoot
from tests.browser.driver import RunningApp, expect_status, generate, open_page


def open_gallery(page: Page) -> None:
    page.get_by_role("tab", name="Gallery").click()


def test_gallery_is_still_there_after_a_restart(
    page: Page, app: RunningApp, shoot: Shoot
) -> None:
    open_gallery(page)
    expect(page.locator("#tiles")).to_contain_text("No videos yet")
    page.get_by_role("tab", name="Create").click()
    for prompt in ("a red square", "a blue square"):
        generate(page, prompt)
        expect_status(page, prompt, "done")
    page.goto("about:blank")
    app.stop()
    app.start()
    open_page(page, app)
    open_gallery(page)
    captions = page.locator(".tile .caption")
    expect(captions).to_have_text(["a blue square", "a red square"])
    shoot("tiles")


def test_settings_of_a_video_are_shown_and_used_again(
    page: Page, app: RunningApp, shoot: Shoot
) -> None:
    page.locator("#field-seed input").fill("4242")
    page.locator("#field-num_inference_steps input[type=number]").fill("6")
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    generate(page, "a blue square")
    expect_status(page, "a blue square", "done")
    page.locator("#field-seed input").fill("1")
    open_gallery(page)
    page.locator(".tile").filter(has_text="a red square").click()
    detail = page.locator("#detail .detail")
    for text in ("a red square", "4242", "fake-model", "64", "9"):
        expect(detail).to_contain_text(text)
    shoot("detail")
    detail.get_by_text("Use these settings").click()
    expect(page.locator("#field-prompt textarea")).to_have_value("a red square")
    expect(page.locator("#field-seed input")).to_have_value("4242")
    steps = page.locator("#field-num_inference_steps input[type=number]")
    expect(steps).to_have_value("6")
    expect(page.locator("#field-prompt")).to_be_visible()


def test_deleted_video_is_gone_from_disk_and_page(page: Page, app: RunningApp) -> None:
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    open_gallery(page)
    page.locator(".tile").first.click()
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#detail [data-action=delete]").click()
    expect(page.locator("#tiles")).to_contain_text("No videos yet")
    expect(page.locator("#detail .detail")).to_have_count(0)
    assert not list((app.root / "outputs").glob("*.mp4"))


def test_prompt_with_markup_is_shown_as_text(page: Page) -> None:
    prompt = "a red <img src=x onerror=document.body.remove()> square"
    generate(page, prompt)
    expect_status(page, prompt, "done")
    open_gallery(page)
    expect(page.locator(".tile .caption")).to_have_text(prompt)
    page.locator(".tile").first.click()
    expect(page.locator("#detail .prompt")).to_have_text(prompt)
