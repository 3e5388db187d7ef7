import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import RequestError
from engine.media.inputs import portable
from engine.media.video import VideoWriter
from engine.validate import accept

pytestmark = pytest.mark.usefixtures("use_fake_family")


@pytest.fixture
def picture(settings):
    file = settings.outputs / "Start.PNG"
    file.parent.mkdir(parents=True)
    return drawn(file, "blue")


def drawn(file, colour):
    Image.new("RGB", (64, 48), colour).save(file)
    return file


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def request(field="image_start", name="", model="fake-model"):
    return {"model": model, "prompt": "a red square", "seed": 1, field: name}


def refusal(data, settings, folder=None):
    with pytest.raises(RequestError) as caught:
        accept(data, folder=folder, settings=settings)
    [problem] = caught.value.problems
    return problem.message


def test_an_accepted_picture_is_kept_under_its_sha256(picture, settings):
    accepted = accept(request(name=str(picture)), folder=None, settings=settings)
    kept = settings.media / f"{sha256(picture)}.png"
    assert accepted.image_start == str(kept)
    assert kept.read_bytes() == picture.read_bytes()
    picture.unlink()
    assert accept(accepted, folder=None, settings=settings) == accepted
    assert [file.name for file in settings.media.iterdir()] == [kept.name]


def test_a_name_is_looked_for_beside_the_requests_file_first(
    picture, settings, tmp_path
):
    beside = drawn(tmp_path / "start.png", "red")
    accepted = accept(request(name="start.png"), folder=tmp_path, settings=settings)
    assert Path(accepted.image_start).read_bytes() == beside.read_bytes()
    below_root = accept(
        request(name="outputs/Start.PNG"), folder=tmp_path, settings=settings
    )
    assert Path(below_root.image_start).read_bytes() == picture.read_bytes()


@pytest.mark.parametrize("there", [True, False])
def test_a_file_elsewhere_is_refused_alike_whether_it_exists_or_not(
    settings, tmp_path, there
):
    secret = tmp_path / "secret.png"
    if there:
        secret.write_bytes(b"secret")
    allowed = f"{settings.media}, {settings.outputs}"
    message = f"{str(secret)!r} isn't in a folder that may be used: {allowed}"
    assert refusal(request(name=str(secret)), settings) == message
    assert refusal(request(name=str(secret), model="wan-demo"), settings) == message


@pytest.mark.parametrize(
    "name", ["../../secret.png", "outputs/../../secret.png", "media/\0", "/dev/stdin"]
)
def test_ways_out_of_the_folders_are_refused(settings, picture, tmp_path, name):
    (tmp_path / "secret.png").write_bytes(b"secret")
    assert "isn't in a folder that may be used" in refusal(request(name=name), settings)


def test_a_link_that_leads_out_is_refused(settings, picture, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    link = settings.outputs / "link.png"
    link.symlink_to(tmp_path / "secret.png")
    assert "isn't in a folder that may be used" in refusal(
        request(name=str(link)), settings
    )
    loop = settings.outputs / "loop.png"
    loop.symlink_to(loop)
    assert refusal(request(name=str(loop)), settings)


def test_a_missing_file_and_a_folder_are_told_apart_from_a_wrong_place(
    settings, picture
):
    missing = str(settings.outputs / "none.png")
    assert refusal(request(name=missing), settings) == f"there is no file {missing!r}"
    folder = str(settings.outputs)
    assert refusal(request(name=folder), settings) == f"there is no file {folder!r}"


def test_a_model_without_the_field_says_so(settings, picture):
    data = request(name=str(picture), model="wan-demo")
    assert refusal(data, settings) == "wan-demo doesn't take a start image"
    assert not settings.media.exists()


def test_a_file_that_cannot_be_copied_is_named(settings, picture):
    settings.media.write_bytes(b"a file where the folder should be")
    message = refusal(request(name=str(picture)), settings)
    assert message == f"{str(picture)!r} can't be copied: File exists"


def test_a_video_names_kept_media_relative_to_the_data_root(picture, settings):
    accepted = accept(request(name=str(picture)), folder=None, settings=settings)
    described = portable(accepted, settings)
    assert described.image_start.startswith("media/")
    assert accept(described, folder=None, settings=settings) == accepted


@pytest.fixture
def clip(settings, picture):
    """A video of nine frames."""
    file = picture.parent / "clip.mp4"
    with VideoWriter(file, width=64, height=48, fps=8.0, tags={}) as video:
        video.write(np.full((9, 48, 64, 3), 100, np.uint8))
    return file


def pinned(*files):
    conditions = [
        {"file": str(file), "frame_index": place} for place, file in enumerate(files)
    ]
    return request("conditions", conditions)


def test_pinned_media_are_kept_and_named_without_the_data_root(picture, clip, settings):
    data = pinned(picture, clip)
    accepted = accept(data, folder=None, settings=settings)
    kept = [
        str(settings.media / f"{sha256(picture)}.png"),
        str(settings.media / f"{sha256(clip)}.mp4"),
    ]
    assert [each.file for each in accepted.conditions] == kept
    assert [each.frame_index for each in accepted.conditions] == [0, 1]
    described = portable(accepted, settings)
    assert str(settings.root) not in described.to_json()
    picture.unlink()
    clip.unlink()
    assert accept(described, folder=None, settings=settings) == accepted


def test_a_pinned_file_elsewhere_is_refused_with_its_number(
    picture, settings, tmp_path
):
    message = refusal(pinned(picture, tmp_path / "secret.png"), settings)
    assert message.startswith("condition 2: ")
    assert "isn't in a folder that may be used" in message
    assert not settings.media.exists()


@pytest.mark.parametrize(
    ("field", "name", "reason"),
    [
        ("image_start", "junk.png", "junk.png isn't a picture that can be read"),
        ("image_end", "clip.mp4", "clip.mp4 isn't a picture that can be read"),
        ("source_video", "junk.png", "junk.png isn't a video that can be read"),
        (
            "conditions",
            [{"file": "junk.png", "frame_index": 0}],
            "condition 1: junk.png is neither a picture nor a video that can be read",
        ),
    ],
)
def test_a_file_that_is_something_else_is_refused_before_its_job_waits(
    clip, settings, field, name, reason
):
    (clip.parent / "junk.png").write_bytes(b"junk" * 100)
    assert refusal(request(field, name), settings, clip.parent) == reason
    assert not settings.media.exists()
