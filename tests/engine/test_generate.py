import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from engine.errors import Cancelled, OutOfMemory, RequestError, UserError
from engine.generate import Generator, generate
from engine.media.metadata import read_request
from engine.media.video import VideoWriter, probe, read_frames
from engine.outputs import list_outputs, sidecar_path
from engine.validate import accept
from tests.fakes import COLOURS, FAMILY

pytestmark = pytest.mark.usefixtures("use_fake_family")


@pytest.fixture
def request_of(settings):
    def request_of(prompt="a red square", **values):
        data = {"model": "fake-model", "prompt": prompt, "seed": 5, **values}
        return accept(data, folder=None, settings=settings)

    return request_of


@pytest.fixture
def generator(settings):
    generator = Generator(settings)
    yield generator
    generator.close()


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("colour", ["red", "green", "blue", "white"])
def test_the_video_shows_what_the_prompt_says(generator, request_of, tmp_path, colour):
    request = request_of(f"a {colour} square", num_frames=13, fps=12.5)
    video = generator.generate(request, tmp_path / "a.mp4")
    info = probe(video)
    assert (info.width, info.height, info.num_frames, info.fps) == (64, 48, 13, 12.5)
    for frame in read_frames(video):
        assert np.abs(frame[20, 32].astype(int) - COLOURS[colour]).max() < 6
    assert read_request(video) == request
    assert files_in(tmp_path) == ["a.mp4"]


def test_events_tell_the_course_of_the_job(generator, request_of, tmp_path):
    events = []
    request = request_of(num_inference_steps=3)
    generator.generate(request, tmp_path / "a.mp4", job="j1", on_event=events.append)
    assert {event.job for event in events} == {"j1"}
    phases = [event.phase for event in events if event.event == "phase"]
    assert list(dict.fromkeys(phases)) == [
        "load",
        "encode",
        "denoise",
        "decode",
        "write",
    ]
    steps = [(e.phase, e.step, e.total) for e in events if e.event == "step"]
    assert steps == [
        ("denoise", 1, 3),
        ("denoise", 2, 3),
        ("denoise", 3, 3),
        ("decode", 1, 9),
        ("decode", 5, 9),
        ("decode", 9, 9),
    ]


def test_previews_come_at_a_bounded_rate_and_cost(generator, request_of, tmp_path):
    events = []
    request = request_of("a slow red square", num_inference_steps=24)
    generator.generate(request, tmp_path / "a.mp4", on_event=events.append)
    previews = [event for event in events if event.event == "preview"]
    assert 1 <= len(previews) <= 2  # 1.2 seconds of steps
    assert previews[0].image.startswith("data:image/jpeg;base64,")


def test_costly_previews_become_rare(generator, request_of, tmp_path, monkeypatch):
    drawn = []

    def preview(model, latents):
        drawn.append(time.sleep(0.3))
        return np.zeros((1, 8, 8, 3), np.uint8)

    monkeypatch.setattr(FAMILY, "preview", preview)
    monkeypatch.setattr("engine.generate.PREVIEW_SECONDS", 0.1)
    request = request_of("a slow red square", num_inference_steps=24)
    generator.generate(request, tmp_path / "a.mp4")
    assert len(drawn) == 1


@pytest.mark.parametrize("step", [1, 3])
def test_a_cancel_acts_at_the_next_step_and_leaves_nothing(
    generator, request_of, tmp_path, step
):
    events = []

    def is_cancelled():
        return any(e.event == "step" and e.step == step for e in events)

    with pytest.raises(Cancelled):
        generator.generate(
            request_of("a red square that would stall"),
            tmp_path / "a.mp4",
            on_event=events.append,
            is_cancelled=is_cancelled,
        )
    assert [e.step for e in events if e.event == "step"][-1] == step
    assert files_in(tmp_path) == []
    assert generator.generate(request_of(), tmp_path / "b.mp4").exists()


@pytest.mark.parametrize("phase", ["load", "encode", "denoise", "decode", "write"])
def test_a_cancel_acts_in_every_phase(generator, request_of, tmp_path, phase):
    events = []

    def is_cancelled():
        return any(e.event == "phase" and e.phase == phase for e in events)

    with pytest.raises(Cancelled):
        generator.generate(
            request_of(),
            tmp_path / "a.mp4",
            on_event=events.append,
            is_cancelled=is_cancelled,
        )
    assert [e.phase for e in events if e.event == "phase"][-1] == phase
    assert files_in(tmp_path) == []


def test_a_failure_leaves_nothing_and_the_next_job_runs(
    generator, request_of, tmp_path
):
    with pytest.raises(ValueError, match="the fake was told to fail"):
        generator.generate(request_of("fail"), tmp_path / "a.mp4")
    assert files_in(tmp_path) == []
    assert generator.generate(request_of(), tmp_path / "a.mp4").exists()


def test_running_out_of_memory_is_told_with_numbers(generator, request_of, tmp_path):
    with pytest.raises(OutOfMemory, match="fake-model at 64x48, 9 frames"):
        generator.generate(request_of("oom"), tmp_path / "a.mp4")


def test_the_model_stays_between_jobs(generator, request_of, tmp_path):
    loads = []
    for index in range(3):
        events = []
        generator.generate(
            request_of(seed=index), tmp_path / f"{index}.mp4", on_event=events.append
        )
        loads.append(sum(e.event == "phase" and "VAE" in e.message for e in events))
    assert loads == [1, 0, 0]


def test_warming_up_loads_the_model(generator, request_of, tmp_path):
    generator.warm_up("fake-model")
    events = []
    generator.generate(request_of(), tmp_path / "a.mp4", on_event=events.append)
    assert not any(e.event == "phase" and "VAE" in e.message for e in events)


def test_an_existing_file_is_replaced_only_by_a_whole_one(
    generator, request_of, tmp_path
):
    output = tmp_path / "a.mp4"
    output.write_bytes(b"an earlier video")
    with pytest.raises(ValueError, match="told to fail"):
        generator.generate(request_of("fail"), output)
    assert output.read_bytes() == b"an earlier video"
    generator.generate(request_of(), output)
    assert probe(output).num_frames == 9


def test_a_sidecar_holds_a_request_that_can_be_run_again(settings, tmp_path):
    settings = settings.model_copy(update={"sidecar": True})
    video = generate(
        {"model": "fake-model", "prompt": "a blue square"}, settings=settings
    )
    stored = json.loads(sidecar_path(video).read_text())
    assert accept(stored, folder=None, settings=settings) == read_request(video)


def test_an_unwritable_folder_is_a_users_error(generator, request_of, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="can't write the video into"):
        generator.generate(request_of(), tmp_path / "file" / "a.mp4")


def test_the_scripts_door_checks_and_puts_videos_into_outputs(settings):
    data = {"model": "fake-model", "prompt": "a green square", "seed": 9}
    paths = [generate(data, settings=settings) for _ in range(2)]
    assert paths[0] != paths[1]
    listed = list_outputs(settings.outputs)
    assert {output.path for output in listed} == set(paths)
    assert {output.request.seed for output in listed} == {9}
    with pytest.raises(RequestError, match="num_frames: must be at least 1, is -1"):
        generate({**data, "num_frames": -1}, settings=settings)


def test_a_start_image_reaches_the_family(settings, request_of, generator, tmp_path):
    settings.outputs.mkdir(parents=True)
    picture = settings.outputs / "start.png"
    Image.new("RGB", (8, 8), (20, 40, 220)).save(picture)
    request = request_of("a red square", image_start=str(picture))
    picture.unlink()
    frames = list(read_frames(generator.generate(request, tmp_path / "a.mp4")))
    assert frames[0][20, 32, 2] > 180
    assert frames[1][20, 32, 0] > 180


SHADES = [30 + 20 * k for k in range(9)]


@pytest.fixture
def source(settings):
    """A video of nine shades of grey at 8 frames per second."""
    settings.outputs.mkdir(parents=True)
    path = settings.outputs / "source.mp4"
    with VideoWriter(path, width=64, height=48, fps=8.0, tags={}) as video:
        for shade in SHADES:
            video.write(np.full((1, 48, 64, 3), shade, np.uint8))
    return path


def shown(video):
    """The colour at the centre of each frame."""
    return np.array([frame[20, 32] for frame in read_frames(video)], int)


@pytest.mark.parametrize("overlap", [1, 5])
def test_a_continued_video_is_the_source_and_then_the_new_frames(
    generator, request_of, tmp_path, source, overlap
):
    request = request_of(
        num_frames=13, source_video=str(source), overlap_frames=overlap
    )
    source.unlink()
    events = []
    video = generator.generate(request, tmp_path / "a.mp4", on_event=events.append)
    frames = shown(video)
    assert len(frames) == 9 - overlap + 13
    assert np.abs(frames[:9] - np.array(SHADES)[:, None]).max() < 6
    assert np.abs(frames[9:] - COLOURS["red"]).max() < 6
    assert read_request(video).overlap_frames == overlap
    steps = [
        (e.step, e.total)
        for e in events
        if getattr(e, "phase", "") == "decode" and e.event == "step"
    ]
    assert (steps[0], steps[-1]) == ((1, 13), (13, 13))


def test_a_continued_video_is_brought_to_the_size_and_rate_asked_for(
    generator, request_of, tmp_path, source
):
    values = {"fps": 16.0, "width": 32, "height": 96, "num_frames": 9}
    request = request_of(source_video=str(source), **values)
    video = generator.generate(request, tmp_path / "a.mp4")
    info = probe(video)
    assert (info.width, info.height, info.fps) == (32, 96, 16.0)
    assert info.num_frames == 2 * len(SHADES) - 5 + 9


def test_cancelling_while_the_source_is_copied_leaves_nothing(
    generator, request_of, tmp_path, source
):
    events = []
    with pytest.raises(Cancelled):
        generator.generate(
            request_of(source_video=str(source)),
            tmp_path / "a.mp4",
            on_event=events.append,
            is_cancelled=lambda: any(
                e.event == "phase" and "continued" in e.message for e in events
            ),
        )
    assert not (tmp_path / "a.mp4").exists()
    assert files_in(tmp_path / ".part") == []


def test_pinned_media_reach_their_frames(generator, request_of, tmp_path, source):
    still = source.with_name("still.png")
    Image.new("RGB", (8, 8), (20, 40, 220)).save(still)
    conditions = [
        {"file": str(still), "frame_index": 1},
        {"file": str(source), "frame_index": 4},
        {"file": str(still), "frame_index": -2},
    ]
    request = request_of(num_frames=17, image_end=str(still), conditions=conditions)
    frames = shown(generator.generate(request, tmp_path / "a.mp4"))
    blue = [index for index, frame in enumerate(frames) if frame[2] > 180]
    assert blue[0] == 1
    assert blue[-2:] == [15, 16]
    assert np.abs(frames[4:13] - np.array(SHADES)[:, None]).max() < 6
    assert np.abs(frames[[0, 2, 3, 13, 14]] - COLOURS["red"]).max() < 6


def test_a_sidecar_that_cannot_be_written_costs_no_video(
    settings, request_of, tmp_path
):
    output = tmp_path / "a.mp4"
    sidecar_path(output).mkdir()
    events = []
    generator = Generator(settings.model_copy(update={"sidecar": True}))
    generator.generate(request_of(), output, on_event=events.append)
    assert probe(output).num_frames == 9
    [warned] = [event.message for event in events if event.event == "warned"]
    assert warned == f"can't write {sidecar_path(output)}: Is a directory"


def test_a_job_that_fails_late_leaves_no_sidecar(
    settings, request_of, tmp_path, monkeypatch
):
    def full(*_):
        raise UserError("the disk is full")

    monkeypatch.setattr("engine.outputs._publish", full)
    generator = Generator(settings.model_copy(update={"sidecar": True}))
    with pytest.raises(UserError, match="the disk is full"):
        generator.generate(request_of(), tmp_path / "a.mp4")
    assert files_in(tmp_path) == []


def test_the_fake_needs_no_torch_and_little_time(settings):
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tests.fakes import register_fake_family\n"
        "from engine.generate import generate\n"
        "from engine.settings import Settings\n"
        "register_fake_family()\n"
        "settings = Settings(root=Path(sys.argv[1]), gpu='cpu')\n"
        "data = {'model': 'fake-model', 'prompt': 'a red square'}\n"
        "generate(data, settings=settings)\n"
        "assert 'torch' not in sys.modules\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\n"
    )
    command = [sys.executable, "-c", program, str(settings.root)]
    subprocess.run(command, check=True)
