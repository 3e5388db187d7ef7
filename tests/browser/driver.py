"""Starts the app with the fake family and drives its page in Chromium."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from engine.settings import PROJECT

# Chromium must neither need a sandbox that a container lacks nor call home.
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_SECONDS = 60


def chromium_path() -> str | None:
    """What ``CHROMIUM`` names, or the one that is installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = (shutil.which(name) for name in names)
    return os.environ.get("CHROMIUM") or next(filter(None, found), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path(), args=CHROMIUM_OPTIONS
        )
        yield browser
        browser.close()


class RunningApp:
    """The app in a process of its own, on one root; can be stopped and started."""

    def __init__(
        self, root: Path, *options: str, module: str = "tests.fake_app"
    ) -> None:
        self.root = root
        self.options = options
        self.module = module
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.printed: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when the page can be opened."""
        command = [sys.executable, "-m", self.module, "--root", str(self.root)]
        command += ["--server-port", str(self.port), "--gpu", "cpu", *self.options]
        self.process = subprocess.Popen(
            command,
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.printed = []
        for line in self.process.stdout:
            self.printed.append(line)
            if line.startswith("Open "):
                break
        else:
            raise AssertionError(f"the app ended: {''.join(self.printed)}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, wait for it, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        rest, _ = self.process.communicate(timeout=30)
        self.printed += rest.splitlines(keepends=True)
        return self.process.returncode


def open_page(page: Page, app: RunningApp) -> None:
    page.goto(app.url)
    expect(page.locator("#generate")).to_be_visible(timeout=START_SECONDS * 1000)
    expect(page.locator("#queue-rows .jobs")).to_be_visible()


def generate(page: Page, prompt: str) -> None:
    """Write the prompt, press the button, and wait until the queue has the job."""
    rows = page.locator("#queue-rows .job")
    before = rows.count()
    page.locator("#field-prompt textarea").fill(prompt)
    page.locator("#generate").click()
    expect(rows).to_have_count(before + 1)


def job_row(page: Page, prompt: str) -> Locator:
    row = page.locator("#queue-rows .job")
    return row.filter(has=page.get_by_text(prompt, exact=True))


def waiting(page: Page) -> list[str]:
    """The prompts of the jobs that wait, in their order."""
    return page.locator("#queue-rows .job.queued .prompt").all_inner_texts()


def press(page: Page, prompt: str, action: str) -> None:
    job_row(page, prompt).locator(f"[data-action={action}]").click()


def expect_status(page: Page, prompt: str, status: str) -> None:
    row = job_row(page, prompt)
    expect(row).to_have_attribute("data-status", status, timeout=30_000)
