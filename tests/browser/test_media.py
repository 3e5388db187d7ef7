"""Images and videos as input: pinning them, continuing a video, getting them back."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from engine.media.metadata import read_request
from engine.media.video import VideoWriter, read_frames
from tests.browser.conftest import Shoot
from tests.browser.driver import RunningApp, expect_status, generate, job_row


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A blue picture, and a clip of five grey frames at 8 frames per second."""
    still, clip = tmp_path / "sky.png", tmp_path / "jump.mp4"
    Image.new("RGB", (64, 48), (20, 40, 230)).save(still)
    with VideoWriter(clip, width=64, height=48, fps=8.0, tags={}) as video:
        video.write(np.full((5, 48, 64, 3), 90, np.uint8))
    return {"sky.png": still, "jump.mp4": clip}


def pin(page: Page, *media: Path) -> None:
    page.locator("#pinning > button").click()
    page.locator("#field-conditions input[type=file]").set_input_files(media)
    expect(page.get_by_label(f"Frame of {media[-1].name}")).to_be_visible()


def place(page: Page, name: str, frame: int) -> None:
    page.get_by_label(f"Frame of {name}").fill(str(frame))


def outputs(app: RunningApp) -> list[Path]:
    return sorted((app.root / "outputs").glob("*.mp4"))


def test_pinned_media_are_shown_where_the_table_says(
    page: Page, app: RunningApp, files: dict[str, Path], shoot: Shoot
) -> None:
    pin(page, files["sky.png"], files["jump.mp4"])
    place(page, "sky.png", 8)
    place(page, "jump.mp4", 1)
    page.get_by_label("Strength").nth(1).fill("0.5")
    shoot("pinned")
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    expect(job_row(page, "a red square")).to_contain_text("2 pinned")
    (video,) = outputs(app)
    request = read_request(video)
    pinned = [(each.frame_index, each.strength) for each in request.conditions]
    assert pinned == [(8, 1.0), (1, 0.5)]
    frames = list(read_frames(video))
    assert frames[8][20, 32, 2] > 180
    assert np.abs(frames[3][20, 32].astype(int) - 90).max() < 6

    page.reload()
    expect(page.get_by_label("Strength").nth(1)).to_have_value("0.5")
    expect(page.locator("#field-conditions")).to_contain_text(".mp4")
    generate(page, "a green square")
    expect_status(page, "a green square", "done")
    newest = max(outputs(app), key=lambda path: path.stat().st_mtime)
    assert read_request(newest).conditions == request.conditions


def test_rows_follow_their_files(page: Page, files: dict[str, Path]) -> None:
    pin(page, files["sky.png"], files["jump.mp4"])
    place(page, "jump.mp4", 3)
    page.locator("#field-conditions [aria-label='Remove this file']").first.click()
    expect(page.get_by_label("Frame of sky.png")).to_have_count(0)
    expect(page.get_by_label("Frame of jump.mp4")).to_have_value("3")


def test_misplaced_medium_is_told_at_its_field(
    page: Page, files: dict[str, Path], shoot: Shoot
) -> None:
    pin(page, files["sky.png"], files["jump.mp4"])
    place(page, "sky.png", 40)
    page.locator("#field-prompt textarea").fill("a red square")
    page.locator("#generate").click()
    expect(page.locator("#problems")).to_contain_text(
        "condition 1: frame 40 is outside the video"
    )
    shoot("misplaced")
    expect(page.locator("#queue-rows .job")).to_have_count(0)


def test_video_is_continued_from_the_gallery(
    page: Page, app: RunningApp, shoot: Shoot
) -> None:
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".tile").first.click()
    expect(page.locator("#detail .detail")).to_be_visible()
    shoot("detail")
    page.get_by_text("Continue this video").click()
    expect(page.locator("#field-source_video video")).to_be_visible()
    overlap = page.locator("#field-overlap_frames input")
    expect(overlap).to_have_value("5")
    overlap.fill("4")
    overlap.blur()
    expect(overlap).to_have_value("5")  # 4k + 1
    shoot("continuing")
    generate(page, "a green square")
    expect_status(page, "a green square", "done")
    expect(job_row(page, "a green square")).to_contain_text("source video")
    newest = max(outputs(app), key=lambda path: path.stat().st_mtime)
    colours = [frame[20, 32].argmax() for frame in read_frames(newest)]
    assert colours == [0] * 9 + [1] * 4


def test_last_frame_starts_the_next_video(page: Page, app: RunningApp) -> None:
    generate(page, "a blue square")
    expect_status(page, "a blue square", "done")
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".tile").first.click()
    page.get_by_text("Use last frame as start image").click()
    expect(page.locator("#field-image_start img")).to_be_visible()
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    newest = max(outputs(app), key=lambda path: path.stat().st_mtime)
    colours = [frame[20, 32].argmax() for frame in read_frames(newest)]
    assert colours == [2] + [0] * 8


def test_broken_files_are_refused_in_sentences(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    pin(page, broken)
    page.locator("#field-image_start input[type=file]").set_input_files(broken)
    expect(page.locator("#field-image_start img")).to_have_count(1)
    page.locator("#field-prompt textarea").fill("a red square")
    page.locator("#generate").click()
    problems = page.locator("#problems")
    expect(problems).to_contain_text("broken.png is neither a picture nor a video")
    expect(problems).to_contain_text("broken.png isn't a picture that can be read")
    expect(page.locator("#queue-rows .job")).to_have_count(0)


def test_transparent_picture_reaches_the_queue_as_it_was(
    page: Page, app: RunningApp, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "glass.png")
    chooser = page.locator("#field-image_start input[type=file]")
    chooser.set_input_files(tmp_path / "glass.png")
    expect(page.locator("#field-image_start img")).to_be_visible()
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    (kept,) = (app.root / "media").iterdir()
    assert kept.read_bytes() == (tmp_path / "glass.png").read_bytes()
