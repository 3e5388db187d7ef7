"""The list of finished videos."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.ui.gallery import Gallery
from app.ui.gallery_view import detail, tiles
from engine.errors import UserError
from engine.events import Saved, Timing
from engine.outputs import Output
from engine.request import Condition, GenerationRequest

REQUEST = GenerationRequest(
    model="m", prompt="<i>red</i> & round", seed=5, guidance_scale=2.0, fps=16.0
)


def video(folder: Path, name: str, age: float = 0) -> Path:
    file = folder / name
    file.write_bytes(b"x")
    os.utime(file, (time.time() - age, time.time() - age))
    return file


def output(name: str, request: GenerationRequest | None = REQUEST) -> Output:
    made = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    return Output(Path("/out") / name, made, 2_500_000, request)


def test_new_and_deleted_videos_are_noticed(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    assert gallery.outputs() == []
    video(tmp_path, "a.mp4", age=10)
    video(tmp_path, "b.mp4")
    assert [each.path.name for each in gallery.outputs()] == ["b.mp4", "a.mp4"]
    gallery.delete("b.mp4")
    assert [each.path.name for each in gallery.outputs()] == ["a.mp4"]


def test_folder_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert Gallery(tmp_path / "later").outputs() == []


@pytest.mark.parametrize("name", ["../secret.mp4", "/etc/passwd", "gone.mp4"])
def test_only_videos_of_the_folder_can_be_deleted(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    secret = video(tmp_path, "secret.mp4")
    with pytest.raises(UserError):
        Gallery(folder).delete(name)
    assert secret.exists()


SAVED = Saved(
    job="a",
    path="/out/a'b.mp4",
    seconds=65,
    timing=Timing(load=5, denoise=48, steps=4, first_step=12, seconds_per_step=12),
)


def test_detail_shows_all_settings_and_escapes_them() -> None:
    shown = detail(output("a'b.mp4"), SAVED)
    assert "&lt;i&gt;red&lt;/i&gt; &amp; round" in shown
    assert "<dt>Seed</dt><dd>5</dd>" in shown
    assert "<dt>Guidance</dt><dd>2</dd>" in shown
    assert "2.5 MB" in shown
    assert "<dt>Took</dt><dd>1 min 05 s</dd>" in shown
    assert "<dd>loading 5 s, 4 steps of 12 s</dd>" in shown
    assert 'src="gradio_api/file=/out/a%27b.mp4"' in shown
    assert "Use these settings" in shown


def test_video_without_settings_offers_no_use_of_them() -> None:
    shown = detail(output("a.mp4", request=None), None)
    assert "carries no settings" in shown
    assert 'data-action="use"' not in shown


def test_ways_to_go_on_are_there_only_with_a_model_that_takes_them() -> None:
    shown = detail(output("a.mp4"), None, frozenset({"image_start"}))
    video, picture = (
        next(each for each in shown.split("<button") if label in each)
        for label in ("Continue this video", "Use last frame as start image")
    )
    assert "disabled" in video
    assert 'data-how="image_start"' in picture
    assert "disabled" not in picture


def test_detail_names_the_media() -> None:
    pinned = [Condition(file="a.png", frame_index=0)]
    used = REQUEST.with_values(image_end="e.png", conditions=pinned)
    assert "<dt>Media</dt><dd>end image, 1 pinned</dd>" in detail(
        output("a.mp4", used), None
    )


def test_many_videos_come_in_pages() -> None:
    shown = tiles([output(f"{number}.mp4") for number in range(30)], 24)
    assert shown.count('class="tile"') == 24
    assert "Show more (6)" in shown
