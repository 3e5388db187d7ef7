"""What the form says about wrong values, and how it is filled again."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page, Route, expect

from engine.media.video import probe
from tests.browser.conftest import Shoot
from tests.browser.driver import RunningApp, expect_status, generate

FIELDS = {
    "width": "96",
    "height": "64",
    "guidance_scale": "2.5",
    "flow_shift": "4",
    "fps": "12",
    "seed": "123456",
}


def fill(page: Page, field: str, value: str) -> None:
    box = page.locator(f"#field-{field} input[type=number]")
    box.fill(value)
    box.blur()


def open_more(page: Page) -> None:
    page.locator("#advanced > button").click()
    expect(page.locator("#field-fps")).to_be_visible()


def test_wrong_fields_are_marked_with_the_reason(
    page: Page, app: RunningApp, shoot: Shoot
) -> None:
    open_more(page)
    fill(page, "fps", "-3")
    fill(page, "seed", "-5")
    page.locator("#generate").click()
    for field, reason in (
        ("prompt", "Prompt is empty"),
        ("fps", "must be at least 1"),
        ("seed", "must be at least -1"),
    ):
        marked = page.locator(f"#field-{field}.invalid")
        expect(marked).to_contain_text(reason)
        expect(page.locator("#problems")).to_contain_text(reason.split(" ", 1)[1])
    shoot("invalid")
    expect(page.locator("#queue-rows .job")).to_have_count(0)
    assert not list((app.root / "outputs").iterdir())

    fill(page, "fps", "8")
    fill(page, "seed", "-1")
    generate(page, "a red square")
    expect(page.locator(".invalid")).to_have_count(0)
    expect(page.locator("#problems .problems")).to_have_count(0)


def test_first_wrong_field_comes_into_view(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 420})
    open_more(page)
    page.locator("#field-fps").scroll_into_view_if_needed()
    page.locator("#generate").click()
    expect(page.locator("#field-prompt")).to_be_in_viewport()
    expect(page.locator("#field-prompt textarea")).to_be_focused()


def test_size_snaps_to_what_the_model_makes(page: Page) -> None:
    fill(page, "width", "70")
    expect(page.locator("#field-width input")).to_have_value("64")
    fill(page, "height", "9999")
    expect(page.locator("#field-height input")).to_have_value("512")
    expect(page.locator("#size input")).to_have_value("Custom")


@pytest.mark.parametrize(("typed", "made"), [("1000", 81), ("-1", 1)])
def test_length_beyond_the_limits_is_brought_inside(
    typed: str, made: int, page: Page, app: RunningApp
) -> None:
    page.locator("#field-num_frames input[type=number]").fill(typed)
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    (video,) = (app.root / "outputs").glob("*.mp4")
    assert probe(video).num_frames == made


def test_length_snaps_to_what_the_model_makes(page: Page) -> None:
    for typed, made in (("14", "13"), ("16", "17"), ("2", "1")):
        fill(page, "num_frames", typed)
        box = page.locator("#field-num_frames input[type=number]")
        expect(box).to_have_value(made)


def test_length_is_told_in_seconds(page: Page) -> None:
    expect(page.locator("#length-note")).to_have_text("9 frames (1.1 s)")
    fill(page, "num_frames", "33")
    expect(page.locator("#length-note")).to_have_text("33 frames (4.1 s)")


def test_finished_video_dropped_on_the_page_brings_all_fields_back(
    page: Page, app: RunningApp, shoot: Shoot
) -> None:
    open_more(page)
    for field, value in FIELDS.items():
        fill(page, field, value)
    fill(page, "num_frames", "13")
    fill(page, "num_inference_steps", "7")
    page.locator("#field-negative_prompt textarea").fill("blurry")
    generate(page, "a red square in the rain")
    expect_status(page, "a red square in the rain", "done")
    (video,) = (app.root / "outputs").glob("*.mp4")

    page.reload()
    prompt = page.locator("#field-prompt textarea")
    expect(prompt).to_have_value("a red square in the rain")  # the newest, at once
    fill(page, "width", "64")
    fill(page, "num_inference_steps", "2")
    prompt.fill("something else")
    page.locator("#restore > button").click()
    page.locator("#drop input[type=file]").set_input_files(video)
    expect(prompt).to_have_value("a red square in the rain")
    open_more(page)
    for field, value in {**FIELDS, "num_frames": "13"}.items():
        box = page.locator(f"#field-{field} input[type=number]")
        expect(box).to_have_value(value)
    steps = page.locator("#field-num_inference_steps input[type=number]")
    expect(steps).to_have_value("7")
    negative = page.locator("#field-negative_prompt textarea")
    expect(negative).to_have_value("blurry")
    expect(page.locator("#form-notice")).to_contain_text(video.name)
    shoot("restored")


def test_a_page_that_still_loads_takes_no_words_that_it_would_overwrite(
    page: Page, app: RunningApp
) -> None:
    generate(page, "the newest")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/gradio_api/run/predict*", hold)
    with page.expect_request("**/gradio_api/run/predict*"):
        page.goto(app.url)
    prompt = page.locator("#field-prompt textarea")
    with pytest.raises(Error, match="intercepts pointer events"):
        prompt.click(timeout=1000)
    assert held
    page.unroute("**/gradio_api/run/predict*")  # what was held goes on
    prompt.click()
    expect(prompt).to_have_value("the newest")


def test_request_file_fills_the_form(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(
        json.dumps({"model": "fake-model", "prompt": "from a file", "num_frames": 5})
    )
    page.locator("#restore > button").click()
    page.locator("#drop input[type=file]").set_input_files(file)
    expect(page.locator("#field-prompt textarea")).to_have_value("from a file")
    expect(page.locator("#length-note")).to_contain_text("5 frames")


def test_video_without_settings_is_refused_in_a_sentence(
    page: Page, tmp_path: Path
) -> None:
    file = tmp_path / "holiday.mp4"
    file.write_bytes(b"not a video")
    page.locator("#restore > button").click()
    page.locator("#drop input[type=file]").set_input_files(file)
    expect(page.locator("#form-notice")).to_contain_text(
        "holiday.mp4 isn't an MP4 video"
    )


def test_start_image_reaches_the_video(
    page: Page, app: RunningApp, tmp_path: Path, shoot: Shoot
) -> None:
    from PIL import Image

    from engine.media.video import read_frames

    Image.new("RGB", (64, 48), (20, 40, 230)).save(tmp_path / "first.png")
    chooser = page.locator("#field-image_start input[type=file]")
    chooser.set_input_files(tmp_path / "first.png")
    expect(page.locator("#field-image_start img")).to_be_visible()
    shoot("start-image")
    generate(page, "a red square")
    expect_status(page, "a red square", "done")
    (video,) = (app.root / "outputs").glob("*.mp4")
    frames = list(read_frames(video))
    assert frames[0][:30].mean(axis=(0, 1)).argmax() == 2
    assert frames[-1][:30].mean(axis=(0, 1)).argmax() == 0
