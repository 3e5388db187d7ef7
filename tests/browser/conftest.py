"""Fixtures of the browser tests: one browser, one app per test, screenshots."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.driver import (
    RunningApp,
    chromium_path,
    open_browser,
    open_page,
)

Shoot = Callable[[str], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if chromium_path() is None:
        pytest.skip("no Chromium here; `make test` installs one")
    with open_browser() as browser:
        yield browser


@pytest.fixture
def app(tmp_path: Path) -> Iterator[RunningApp]:
    running = RunningApp(tmp_path / "root")
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.stop()


@pytest.fixture
def page(browser: Browser, app: RunningApp) -> Iterator[Page]:
    """The app's page. Errors in its script and requests to other hosts fail the
    test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(15_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: faults.extend(_other_host(request.url)))
    open_page(page, app)
    yield page
    context.close()
    assert not faults


@pytest.fixture
def shoot(page: Page, tmp_path: Path, request: pytest.FixtureRequest) -> Shoot:
    """Takes a picture of the page, into ``$SCREENSHOTS`` where that is set."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path / "screenshots")

    def take(name: str) -> None:
        page.screenshot(path=folder / f"{request.node.name}-{name}.png", full_page=True)

    return take


def _other_host(url: str) -> list[str]:
    own = ("http://127.0.0.1:", "data:", "blob:")
    return [] if url.startswith(own) else [f"the page asked for {url}"]
