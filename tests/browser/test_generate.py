"""From a prompt in the form to a video that plays."""

import time

import pytest
from playwright.sync_api import Page, expect

from engine.media.metadata import read_request
from engine.media.video import probe
from tests.browser.conftest import Shoot
from tests.browser.driver import (
    RunningApp,
    expect_status,
    generate,
    open_page,
    press,
)

PLAYS = "video => video.readyState >= 2 && !video.paused && video.currentTime > 0"


def expect_playing(page: Page, video: str) -> None:
    handle = page.locator(video).element_handle()
    page.wait_for_function(PLAYS, arg=handle, timeout=20_000)


def test_prompt_becomes_a_playing_video(
    page: Page, app: RunningApp, shoot: Shoot
) -> None:
    shoot("empty")
    expect(page.locator("#player")).to_contain_text("press Generate")
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    expect_playing(page, "#newest-video")
    shoot("playing")
    (video,) = (app.root / "outputs").glob("*.mp4")
    assert read_request(video).prompt == "a red square"
    assert (probe(video).width, probe(video).height) == (64, 48)


def test_settings_of_a_dropped_video_make_the_same_video_again(
    page: Page, app: RunningApp
) -> None:
    page.locator("#field-num_inference_steps input[type=number]").fill("7")
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    (first,) = (app.root / "outputs").glob("*.mp4")
    page.reload()
    page.locator("#restore > button").click()
    page.locator("#drop input[type=file]").set_input_files(first)
    expect(page.locator("#form-notice")).to_contain_text(first.name)
    page.locator("#generate").click()
    expect(page.locator("#queue-rows .job.done")).to_have_count(2)
    one, other = (app.root / "outputs").glob("*.mp4")
    assert read_request(one) == read_request(other)
    assert read_request(one).num_inference_steps == 7


def test_control_and_enter_generates(page: Page) -> None:
    page.locator("#field-prompt textarea").fill("a blue square")
    page.locator("#field-prompt textarea").press("Control+Enter")
    expect_status(page, "a blue square", "done")


def test_example_fills_the_prompt(page: Page) -> None:
    page.locator("#form .chip").first.click()
    expect(page.locator("#field-prompt textarea")).to_have_value("a red square")


def test_progress_is_shown_and_cancel_ends_it(page: Page, shoot: Shoot) -> None:
    page.locator("#field-num_inference_steps input[type=number]").fill("100")
    generate(page, "a slow blue square")
    card = page.locator("#progress .card.running")
    expect(card).to_contain_text("of 100")
    expect(card).to_contain_text("s/step")
    expect(card.locator("img.preview")).to_be_visible()
    expect(page.locator("#generate")).to_have_text("Add to queue (1 ahead)")
    shoot("running")
    began = time.monotonic()
    card.locator("[data-action=cancel]").click()
    expect_status(page, "a slow blue square", "cancelled")
    assert time.monotonic() - began < 4
    expect(card).to_have_count(0)
    expect(page.locator("#generate")).to_have_text("Generate")


def test_reload_during_a_job_shows_it_going_on(
    page: Page, app: RunningApp, shoot: Shoot
) -> None:
    page.locator("#field-num_inference_steps input[type=number]").fill("100")
    generate(page, "a slow green square")
    expect(page.locator("#progress .card.running")).to_be_visible()
    open_page(page, app)
    card = page.locator("#progress .card.running")
    expect(card).to_contain_text("a slow green square")
    first = int(card.get_attribute("data-percent") or 0)
    page.wait_for_function(
        "first => document.querySelector('#progress .card')?.dataset.percent > first",
        arg=first,
    )
    shoot("after-reload")
    expect(page.locator("#field-prompt textarea")).to_have_value("a slow green square")
    expect_status(page, "a slow green square", "done")
    assert len(list((app.root / "outputs").glob("*.mp4"))) == 1


def test_second_tab_shows_the_same_queue(page: Page, app: RunningApp) -> None:
    page.locator("#queue-pause").click()
    expect(page.locator("#queue-pause")).to_have_text("Resume")
    generate(page, "a red square")
    other = page.context.new_page()
    open_page(other, app)
    expect_status(other, "a red square", "queued")
    press(other, "a red square", "cancel")
    expect_status(page, "a red square", "cancelled")


def test_failure_is_told_with_its_reason(page: Page, shoot: Shoot) -> None:
    generate(page, "please fail")
    expect_status(page, "please fail", "failed")
    card = page.locator("#progress .card.failed")
    expect(card).to_contain_text("told to fail")
    shoot("failed")
    card.get_by_text("Dismiss").click()
    expect(card).to_have_count(0)


@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_the_window(page: Page, width: int, shoot: Shoot) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    shoot(str(width))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
