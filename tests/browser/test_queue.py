"""The queue on the page: order, cancel, retry, pause, clear, save and restore."""

import signal
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Shoot
from tests.browser.driver import (
    RunningApp,
    expect_status,
    generate,
    open_page,
    press,
    waiting,
)

THREE = ["a red square", "a green square", "a blue square"]
IDS = "rows => rows.map(row => row.dataset.job)"
PRESS_ALL = """async places => {
  for (const place of places) {
    document.querySelector(place).click();
    await new Promise(done => setTimeout(done, 10));
  }
}"""
"""Each press comes while the one before is still being answered."""


def pause(page: Page) -> None:
    page.locator("#queue-pause").click()
    expect(page.locator("#queue-pause")).to_have_text("Resume")


def resume(page: Page) -> None:
    page.locator("#queue-pause").click()
    expect(page.locator("#queue-pause")).to_have_text("Pause")


def restore(page: Page, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#queue-restore").click()
    chooser.value.set_files(file)


def expect_waiting(page: Page, prompts: list[str]) -> None:
    shown = page.locator("#queue-rows .job.queued .prompt")
    expect(shown).to_have_text(prompts)


def made(app: RunningApp) -> list[str]:
    """Prompts of the finished videos, in the order they were made."""
    files = sorted(
        (app.root / "outputs").glob("*.mp4"), key=lambda path: path.stat().st_mtime_ns
    )
    return [file.name.split("_")[3] for file in files]


def test_three_queued_reordered_one_cancelled_one_retried(
    page: Page, app: RunningApp, shoot: Shoot
) -> None:
    pause(page)
    for prompt in THREE:
        generate(page, prompt)
    expect_waiting(page, THREE)
    press(page, "a blue square", "up")
    expect_waiting(page, ["a red square", "a blue square", "a green square"])
    press(page, "a red square", "down")
    expect_waiting(page, ["a blue square", "a red square", "a green square"])
    press(page, "a red square", "cancel")
    expect_status(page, "a red square", "cancelled")
    shoot("reordered")
    resume(page)
    for prompt in ("a blue square", "a green square"):
        expect_status(page, prompt, "done")
    press(page, "a red square", "retry")
    expect_status(page, "a red square", "done")
    assert made(app) == ["a-blue-square", "a-green-square", "a-red-square"]
    shoot("done")


def test_every_press_counts_while_the_one_before_is_answered(page: Page) -> None:
    pause(page)
    page.locator("#field-prompt textarea").fill("a red square")
    page.evaluate(PRESS_ALL, ["#generate"] * 5)
    expect_waiting(page, ["a red square"] * 5)
    jobs = page.locator("#queue-rows .job").evaluate_all(IDS)
    cancel = "[data-action=cancel][data-job='{}']"
    page.evaluate(PRESS_ALL, [cancel.format(job) for job in jobs])
    expect(page.locator("#queue-rows .job.cancelled")).to_have_count(5)


@pytest.mark.parametrize("place", ["#field-prompt textarea", "#generate"])
def test_a_key_that_is_held_down_presses_once(page: Page, place: str) -> None:
    pause(page)
    page.locator("#field-prompt textarea").fill("a red square")
    page.locator(place).focus()
    page.keyboard.down("Control")
    for _ in range(5):
        page.keyboard.down("Enter")
        page.wait_for_timeout(50)
    page.keyboard.up("Enter")
    page.keyboard.press("Enter")
    page.keyboard.up("Control")
    expect_waiting(page, ["a red square"] * 2)


def test_restart_goes_on_with_the_queue(
    page: Page, app: RunningApp, shoot: Shoot
) -> None:
    generate(page, "stall")
    expect_status(page, "stall", "running")
    for prompt in THREE:
        generate(page, prompt)
    page.goto("about:blank")
    assert app.stop(signal.SIGINT) == 0
    assert not any("Traceback" in line for line in app.printed)
    app.start()
    open_page(page, app)
    expect_status(page, "stall", "running")
    assert waiting(page) == THREE
    shoot("restarted")
    press(page, "stall", "cancel")
    for prompt in THREE:
        expect_status(page, prompt, "done")
    assert made(app) == ["a-red-square", "a-green-square", "a-blue-square"]


def test_saved_queue_comes_back_after_it_was_cleared(
    page: Page, app: RunningApp, tmp_path: Path, shoot: Shoot
) -> None:
    pause(page)
    for prompt in THREE:
        generate(page, prompt)
    with page.expect_download() as download:
        page.locator("#queue-save").click()
    file = tmp_path / "queue.zip"
    download.value.save_as(file)
    assert zipfile.is_zipfile(file)

    page.once("dialog", lambda dialog: dialog.dismiss())
    page.locator("#queue-clear").click()
    expect_waiting(page, THREE)
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#queue-clear").click()
    expect(page.locator("#queue-rows .job.queued")).to_have_count(0)
    expect(page.locator("#queue-notice")).to_contain_text("3 videos")
    shoot("cleared")

    restore(page, file)
    expect_waiting(page, THREE)
    shoot("restored")
    resume(page)
    for prompt in THREE:
        expect_status(page, prompt, "done")


def test_broken_queue_file_is_refused_in_a_sentence(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "queue.zip"
    file.write_bytes(b"no zip at all")
    restore(page, file)
    expect(page.locator("#queue-notice")).to_contain_text("queue.zip")
    expect(page.locator("#queue-rows .job")).to_have_count(0)


def test_tidy_up_forgets_what_ended_and_keeps_the_videos(
    page: Page, app: RunningApp
) -> None:
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    page.locator("[data-action=tidy]").click()
    expect(page.locator("#queue-rows .job")).to_have_count(0)
    assert made(app) == ["a-red-square"]
    expect(page.locator("#newest-video")).to_be_visible()
