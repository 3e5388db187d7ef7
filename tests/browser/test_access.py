"""Who can reach the page, and which files it gives away."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.driver import RunningApp


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[RunningApp]:
    running = RunningApp(tmp_path / "root", "--listen")
    running.start()
    running.printed.append(running.process.stdout.readline())
    yield running
    running.stop()


def test_page_for_others_wants_the_printed_credentials(
    browser: Browser, listening: RunningApp
) -> None:
    (line,) = [line for line in listening.printed if "Password:" in line]
    _, user, _, password = line.split()
    context = browser.new_context()
    page = context.new_page()
    page.goto(listening.url)
    expect(page.locator("#generate")).to_have_count(0)
    page.get_by_label("username").fill(user)
    page.get_by_label("password").fill("wrong")
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_text("Incorrect")).to_be_visible()
    page.get_by_label("username").fill(user)
    page.get_by_label("password").fill(password)
    page.get_by_role("button", name="Login").click()
    expect(page.locator("#generate")).to_be_visible(timeout=30_000)
    context.close()


def test_without_login_neither_page_nor_files_are_given(
    browser: Browser, listening: RunningApp
) -> None:
    video = listening.root / "outputs" / "secret.mp4"
    video.write_bytes(b"frames")
    context = browser.new_context()
    for path in ("config", f"gradio_api/file={video}", "gradio_api/info"):
        answer = context.request.get(listening.url + path)
        assert answer.status == 401
    context.close()


def test_only_finished_videos_are_given(browser: Browser, app: RunningApp) -> None:
    (app.root / "outputs" / "done.mp4").write_bytes(b"frames")
    context = browser.new_context()
    given = context.request.get(f"{app.url}gradio_api/file={app.root}/outputs/done.mp4")
    assert given.body() == b"frames"
    for path in (app.root / "queue.sqlite", Path("/etc/passwd"), Path("wgp.py")):
        refused = context.request.get(f"{app.url}gradio_api/file={path}")
        assert refused.status in {403, 404}
    context.close()


def test_page_offers_no_api_of_its_own(browser: Browser, app: RunningApp) -> None:
    context = browser.new_context()
    offered = context.request.get(f"{app.url}gradio_api/info").json()
    assert offered["named_endpoints"] == {}
    assert offered["unnamed_endpoints"] == {}
    context.close()
