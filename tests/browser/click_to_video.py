"""Seconds from a click on Generate to a video that plays on the page, for wan-demo's
default video: ``python -m tests.browser.click_to_video``. Needs Chromium.

A person who types a prompt gives the app some seconds, in which it loads the model; so
does this. Without them the first video waits for that.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page

from tests.browser.driver import RunningApp, open_browser, open_page

VIDEOS = 4
TYPING_SECONDS = 6.0
PLAYS = """before => {
    const video = document.querySelector("#newest-video");
    const isNew = video && video.currentSrc !== before;
    return isNew && video.readyState >= 2 && video.currentTime > 0;
}"""
SOURCE = "() => document.querySelector('#newest-video')?.currentSrc"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="wgp-") as root, open_browser() as browser:
        app = RunningApp(Path(root), module="wgp")
        app.start()
        try:
            page = browser.new_page()
            open_page(page, app)
            time.sleep(TYPING_SECONDS)
            for number in range(1, VIDEOS + 1):
                print(f"video {number}: {click_once(page, number):.2f} s", flush=True)
        finally:
            app.stop()


def click_once(page: Page, number: int) -> float:
    prompt = f"a red ball bouncing on grass, clip {number}"
    page.locator("#field-prompt textarea").fill(prompt)
    before = page.evaluate(SOURCE)
    began = time.perf_counter()
    page.locator("#generate").click()
    page.wait_for_function(PLAYS, arg=before, timeout=120_000, polling=50)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
