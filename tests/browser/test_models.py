"""Models on the page: fetched from a hub on the loopback device, checked, deleted."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from engine.loading.download import MIB
from tests.browser.conftest import Shoot
from tests.browser.driver import generate, job_row
from tests.fakes import FETCHED
from tests.hub_server import FakeHub, safetensors

SIZE = 8 * MIB


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """The hub of the app, which is started after it."""
    files = {"large.safetensors": safetensors(SIZE), "vae/small.safetensors": b"{}"}
    files["vae/small.safetensors"] = safetensors(3)
    with FakeHub({"fake/model": files}).serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield hub


def row(page: Page):
    return page.locator(f"[data-model={FETCHED.id}].model")


def press(page: Page, name: str) -> None:
    row(page).get_by_role("button", name=name).click()


def test_a_model_is_fetched_checked_and_deleted(
    page: Page, hub: FakeHub, tmp_path: Path, shoot: Shoot
) -> None:
    hub.block, hub.pause = 1 << 14, 0.02  # 10 s
    page.get_by_role("tab", name="Models").click()
    expect(row(page)).to_contain_text("4 MB to download")
    press(page, "Download")
    expect(row(page)).to_contain_text(
        re.compile(r"\d of 9 MiB, [\d.]+ MiB/s, \d+ s left")
    )
    shoot("downloading")
    press(page, "Cancel")
    expect(page.locator("#models-notice")).to_contain_text("what has come is kept")
    hub.pause = 0
    press(page, "Download")
    expect(row(page)).to_contain_text("on this disk, 8 MB")
    assert hub.sent < SIZE + MIB
    press(page, "Verify")
    expect(row(page)).to_contain_text("2 files are sound")

    [blob] = [b for b in (tmp_path / "hf").rglob("blobs/*") if b.stat().st_size > MIB]
    with blob.open("r+b") as file:
        file.seek(5000)
        file.write(os.urandom(8))
    press(page, "Verify")
    expect(row(page)).to_contain_text("Damaged: large.safetensors.")
    shoot("damaged")
    press(page, "Repair")
    expect(row(page).get_by_role("button", name="Repair")).to_have_count(0)
    expect(row(page)).to_contain_text("on this disk, 8 MB")
    assert hub.sent > 2 * SIZE

    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    press(page, "Delete")
    assert "Delete the files of fake-fetched?" in asked[0]
    assert blob.exists()
    page.once("dialog", lambda dialog: dialog.accept())
    press(page, "Delete")
    expect(page.locator("#models-notice")).to_contain_text("fake-fetched is deleted")
    expect(row(page)).to_contain_text("4 MB to download")
    assert not list((tmp_path / "hf").rglob("blobs/*"))


def test_a_job_waits_as_downloading_while_another_runs(
    page: Page, hub: FakeHub, shoot: Shoot
) -> None:
    hub.block, hub.pause = 1 << 14, 0.05
    page.locator("#field-model input").click()
    page.get_by_role("option", name=FETCHED.title).click()
    generate(page, "a red square")
    expect(job_row(page, "a red square").locator(".status")).to_have_text("Downloading")
    card = page.locator("#downloads .download")
    expect(card).to_contain_text(f"Downloading {FETCHED.title}")
    expect(card).to_contain_text("of 9 MiB")
    page.locator("#field-model input").click()
    page.get_by_role("option", name="Fake model", exact=True).click()
    generate(page, "a blue square")
    blue = job_row(page, "a blue square")
    expect(blue).to_have_attribute("data-status", "done", timeout=30_000)
    expect(job_row(page, "a red square").locator(".status")).to_have_text("Downloading")
    shoot("waits")
    card.get_by_role("button", name="Cancel").click()
    red = job_row(page, "a red square")
    expect(red).to_have_attribute("data-status", "failed", timeout=30_000)
    expect(red).to_contain_text("The download of its files was cancelled. Retry begins")


def test_a_refusal_is_told_on_the_page(page: Page, hub: FakeHub, shoot: Shoot) -> None:
    hub.refusals["fake/model"] = (403, "GatedRepo")
    page.get_by_role("tab", name="Models").click()
    press(page, "Download")
    expect(row(page)).to_contain_text("Fake/model wants its terms accepted before")
    expect(row(page)).to_contain_text("sign in with `hf auth login`, then retry.")
    shoot("gated")
