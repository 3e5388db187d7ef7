"""Takes the pictures in docs/images from the running page, light and dark:
``python -m tests.browser.screenshots``."""

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from engine.settings import PROJECT
from tests.browser.driver import (
    RunningApp,
    expect_status,
    generate,
    open_browser,
    open_page,
)

IMAGES = PROJECT / "docs" / "images"
PROMPTS = (
    "a yellow cube bouncing on sand at sunset",
    "a blue ball moving right on snow at day",
    "a red ball moving left on grass at day",
)
MINUTES = 60_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument(
        "--app", default="wgp", help="module to start: wgp, or tests.fake_app"
    )
    options = parser.parse_args()
    options.images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wgp-") as root, open_browser() as browser:
        app = RunningApp(Path(root), module=options.app)
        app.start()
        try:
            take_all(browser, app, options.images)
        finally:
            app.stop()


def take_all(browser: Browser, app: RunningApp, images: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 960})
    open_page(page, app)
    for prompt in PROMPTS:
        page.locator("#field-seed input").fill("1")
        generate(page, prompt)
    for prompt in PROMPTS:
        expect(job_status(page, prompt)).to_be_visible(timeout=3 * MINUTES)
        expect_status(page, prompt, "done")
    page.locator("#queue-pause").click()
    for prompt in ("a green cone turning on tiles at dusk", PROMPTS[0]):
        generate(page, prompt)
    take(page, images / "page")
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".tile").first.click()
    expect(page.locator("#detail .detail")).to_be_visible()
    take(page, images / "gallery")


def job_status(page: Page, prompt: str):
    row = page.locator("#queue-rows .job.done")
    return row.filter(has=page.get_by_text(prompt, exact=True)).first


def take(page: Page, image: Path) -> None:
    """One picture in light and one in dark, its videos at the same moment."""
    for scheme in ("light", "dark"):
        page.evaluate(
            "dark => document.body.classList.toggle('dark', dark)", scheme == "dark"
        )
        page.evaluate(
            "document.querySelectorAll('video').forEach(video => {"
            " video.controls = false; video.pause();"
            " video.currentTime = video.duration / 2; })"
        )
        page.wait_for_timeout(1000)
        page.screenshot(path=image.with_name(f"{image.name}-{scheme}.png"))


if __name__ == "__main__":
    main()
