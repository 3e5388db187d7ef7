"""Input media on their way back to the form, and going on from a finished video."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.ui.media_files import lend, ready_taker, shown_values
from app.ui.services import Services
from engine.errors import UserError
from engine.family import ModelVariant
from engine.media.inputs import portable
from engine.media.video import VideoWriter
from engine.outputs import Output
from engine.request import GenerationRequest
from engine.validate import accept
from tests.app.ui.conftest import Desk

BLUE = (20, 40, 220)


def picture(folder: Path, name: str, colour: tuple[int, int, int] = BLUE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), colour).save(folder / name)
    return folder / name


@pytest.fixture
def finished(services: Services) -> Output:
    """A video of nine shades made by the fake model."""
    path = services.settings.outputs / "nine.mp4"
    with VideoWriter(path, width=64, height=48, fps=8.0, tags={}) as video:
        for shade in range(20, 200, 20):
            video.write(np.full((1, 48, 64, 3), shade, np.uint8))
    data = {"model": "fake-model", "prompt": "a walk", "seed": 7, "width": 96}
    request = accept(data, folder=None, settings=services.settings)
    return Output(path, datetime.now(UTC), 1000, request)


def with_media(services: Services, **media: Any) -> GenerationRequest:
    data = {"model": "fake-model", "prompt": "p", **media}
    return accept(data, folder=services.uploads, settings=services.settings)


def test_media_of_a_video_made_here_come_back(services: Services) -> None:
    picture(services.uploads, "a.png")
    picture(services.uploads, "b.png", (200, 0, 0))
    pinned = [
        {"file": "b.png", "frame_index": 4, "strength": 0.5},
        {"file": "a.png", "frame_index": -1},
    ]
    request = with_media(services, image_start="a.png", conditions=pinned)
    told = portable(request, services.settings)
    shown = shown_values(told, services)
    for file in (shown["image_start"], *(each["file"] for each in shown["conditions"])):
        assert Path(file).is_relative_to(services.uploads)
        assert len(Path(file).stem) == 12
    again = {"model": "fake-model", "prompt": "p", **shown}
    accepted = accept(again, folder=services.uploads, settings=services.settings)
    assert accepted == request.with_values(seed=accepted.seed)


def test_media_that_are_gone_are_left_out(services: Services) -> None:
    gone = picture(services.uploads, "a.png")
    picture(services.uploads, "b.png", (200, 0, 0))
    pinned = [
        {"file": "a.png", "frame_index": 4},
        {"file": "b.png", "frame_index": 5},
    ]
    request = with_media(services, image_start="a.png", conditions=pinned)
    assert request.image_start is not None
    Path(request.image_start).unlink()
    gone.unlink()
    shown = shown_values(request, services)
    assert "image_start" not in shown
    assert [each["frame_index"] for each in shown["conditions"]] == [5]


def test_lending_shares_one_file_and_nothing_beside_it(tmp_path: Path) -> None:
    kept = picture(tmp_path / "media", "a.png")
    lent = Path(lend(kept, tmp_path / "uploads"))
    assert lent.read_bytes() == kept.read_bytes()
    assert lend(lent, tmp_path / "uploads") == str(lent)
    assert lend(kept, tmp_path / "uploads") == str(lent)
    assert len(list((tmp_path / "uploads").rglob("*.png"))) == 1


def test_model_that_made_it_goes_on_if_it_can(services: Services) -> None:
    taker = ready_taker("source_video", services, "wan-demo", "fake-model")
    assert taker is not None
    assert taker.id == "fake-model"
    nothing_here = replace(services, missing=lambda variant: "no files")
    assert ready_taker("source_video", nothing_here, "fake-model") is None


def test_continuing_keeps_the_settings_and_asks_for_another_seed(
    desk: Desk, finished: Output
) -> None:
    desk.fill(model="wan-demo")
    updates = desk.tab.go_on(finished, "source_video", "wan-demo")
    shown = desk.shown(updates)
    assert (shown["model"], shown["prompt"], shown["width"]) == (
        "fake-model",
        "a walk",
        96,
    )
    assert (shown["seed"], shown["overlap_frames"]) == (-1, 5)
    assert Path(shown["source_video"]).read_bytes() == finished.path.read_bytes()
    assert shown["image_start"] is None
    assert updates[desk.tab.form.continuing]["open"] is True


def test_last_frame_becomes_the_start_image(desk: Desk, finished: Output) -> None:
    shown = desk.shown(desk.tab.go_on(finished, "image_start", "fake-model"))
    with Image.open(shown["image_start"]) as image:
        assert image.size == (64, 48)
        assert abs(int(np.asarray(image)[20, 32, 0]) - 180) < 5
    assert shown["source_video"] is None


def test_video_of_another_model_lends_its_words_and_its_size(
    desk: Desk, finished: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(variant: ModelVariant) -> str | None:
        return None if variant.id == "fake-model" else "no files"

    only_fake = replace(desk.tab.services, missing=missing)
    monkeypatch.setattr(desk.tab, "services", only_fake)
    assert finished.request is not None
    other = finished.request.with_values(model="wan-demo", width=104, num_frames=17)
    shown = desk.shown(
        desk.tab.go_on(replace(finished, request=other), "source_video", "wan-demo")
    )
    assert shown["model"] == "fake-model"
    assert (shown["prompt"], shown["width"], shown["num_frames"]) == ("a walk", 96, 9)


def test_without_a_model_that_takes_it_the_form_stays(
    desk: Desk, finished: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = replace(desk.tab.services, missing=lambda variant: "no files")
    monkeypatch.setattr(desk.tab, "services", nobody)
    with pytest.raises(UserError, match="no model whose files are here takes it"):
        desk.tab.go_on(finished, "source_video", "fake-model")
