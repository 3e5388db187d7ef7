"""What every family promises to the engine, with tiny weights or none."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from engine.errors import Cancelled
from engine.family import FAMILIES, get_family
from engine.generate import Generator
from engine.media.metadata import read_request
from engine.media.video import VideoWriter, probe, read_frames
from engine.request import GenerationRequest
from engine.validate import accept
from tests.fakes import register_fake_family
from tests.tiny_hyvideo import write_tiny_hyvideo
from tests.tiny_ltx import write_tiny_ltx
from tests.tiny_wan import write_tiny_wan

TINY_WEIGHTS = {
    "wan": write_tiny_wan,
    "ltx_video": write_tiny_ltx,
    "hyvideo": write_tiny_hyvideo,
    "fake": lambda folder: folder,
}
"""How to write each family's first model in tiny: a new family adds a line."""

SMALL = {"width": 96, "height": 64, "num_frames": 9, "num_inference_steps": 2}

OPTIONAL = ("overlap_frames", "vae_tile_size", "true_cfg_scale")
"""Fields that may stay empty."""


@pytest.fixture(scope="module", params=[*FAMILIES, "fake"])
def family(request):
    before = dict(FAMILIES)
    register_fake_family()
    yield get_family(request.param)
    FAMILIES.clear()
    FAMILIES.update(before)


@pytest.fixture(scope="module")
def root(family, tmp_path_factory):
    """A data root with tiny weights of the family's first model."""
    root = tmp_path_factory.mktemp(family.name)
    folder = root / "ckpts" / family.variants()[0].folder
    TINY_WEIGHTS[family.name](folder)
    return root


@pytest.fixture
def settings(settings, root):
    return settings.model_copy(update={"root": root})


@pytest.fixture
def request_of(family, settings):
    def request_of(**values):
        model = family.variants()[0].id
        data = {"model": model, "prompt": "a red ball", "seed": 1, **SMALL, **values}
        return accept(data, folder=None, settings=settings)

    return request_of


@pytest.fixture
def generator(settings):
    generator = Generator(settings)
    yield generator
    generator.close()


def pixels(video):
    return np.stack(list(read_frames(video)))


def test_each_row_is_complete_and_its_defaults_are_accepted(family, settings, media):
    fields = set(GenerationRequest.model_fields)
    for variant in family.variants():
        assert variant.family == family.name
        assert variant.title and variant.description and variant.licence
        assert set(variant.defaults) <= fields
        assert variant.media <= set(GenerationRequest.MEDIA_FIELDS)
        assert variant.required_media <= variant.media
        given = {field: media[field] for field in variant.required_media}
        request = accept(
            {"model": variant.id, "prompt": variant.prompt_hint, **given},
            folder=None,
            settings=settings,
        )
        for field, default in variant.defaults.items():
            if field != "overlap_frames":  # only with a source video
                assert getattr(request, field) == default
        if "source_video" in variant.media:
            assert variant.defaults["overlap_frames"] >= 1
        unset = {name for name in fields if getattr(request, name) is None}
        assert unset <= {*GenerationRequest.MEDIA_FIELDS, *OPTIONAL}


def test_ids_are_kebab_case_and_differ(family):
    rows = family.variants()
    assert all(row.id == row.id.lower() and " " not in row.id for row in rows)
    assert len({row.id for row in rows}) == len(rows)


def test_a_request_becomes_a_right_video(generator, request_of, tmp_path):
    request = request_of()
    video = generator.generate(request, tmp_path / "a.mp4")
    info = probe(video)
    assert (info.width, info.height, info.num_frames) == (96, 64, 9)
    assert info.fps == pytest.approx(request.fps, abs=0.01)
    assert read_request(video) == request


def test_phases_and_steps_are_told_in_order(generator, request_of, tmp_path):
    events = []
    request = request_of(num_inference_steps=3)
    generator.generate(request, tmp_path / "a.mp4", on_event=events.append)
    phases = dict.fromkeys(e.phase for e in events if e.event == "phase")
    assert list(phases) == ["load", "encode", "denoise", "decode", "write"]
    steps = [e for e in events if e.event == "step"]
    denoised = [(e.step, e.total) for e in steps if e.phase == "denoise"]
    assert denoised == [(1, 3), (2, 3), (3, 3)]
    decoded = [e.step for e in steps if e.phase == "decode"]
    assert decoded[-1] == 9
    assert all(before < after for before, after in pairwise(decoded))


def test_seeds_repeat_and_differ(generator, request_of, tmp_path):
    def video(name, **values):
        return pixels(generator.generate(request_of(**values), tmp_path / name))

    first = video("a.mp4", seed=1)
    assert not np.array_equal(first, video("b.mp4", seed=2))
    assert np.array_equal(first, video("c.mp4", seed=1))


def test_a_seed_repeats_in_a_fresh_generator(generator, settings, request_of, tmp_path):
    first = pixels(generator.generate(request_of(), tmp_path / "a.mp4"))
    other = Generator(settings)
    again = pixels(other.generate(request_of(), tmp_path / "b.mp4"))
    other.close()
    assert np.array_equal(first, again)


def test_the_negative_prompt_matters_under_guidance_and_only_there(
    generator, request_of, tmp_path
):
    def video(negative_prompt, guidance_scale):
        request = request_of(
            negative_prompt=negative_prompt, guidance_scale=guidance_scale
        )
        return pixels(generator.generate(request, tmp_path / "a.mp4"))

    assert not np.array_equal(video("a blue cube", 6.0), video("", 6.0))
    assert np.array_equal(video("a blue cube", 1.0), video("", 1.0))


def test_every_scheduler_of_the_first_row_makes_a_video(
    family, generator, request_of, tmp_path
):
    for name in family.variants()[0].schedulers:
        video = generator.generate(request_of(scheduler=name), tmp_path / "a.mp4")
        assert probe(video).num_frames == 9


def test_a_single_frame_can_be_made(generator, request_of, tmp_path):
    video = generator.generate(request_of(num_frames=1), tmp_path / "a.mp4")
    assert probe(video).num_frames == 1


@pytest.fixture
def media(settings):
    """A value for each media field that a model may take."""
    settings.outputs.mkdir(parents=True, exist_ok=True)
    still, clip = settings.outputs / "still.png", settings.outputs / "clip.mp4"
    Image.new("RGB", (96, 64), (250, 250, 250)).save(still)
    with VideoWriter(clip, width=96, height=64, fps=8.0, tags={}) as video:
        video.write(np.full((9, 64, 96, 3), 250, np.uint8))
    return {
        "image_start": str(still),
        "image_end": str(still),
        "source_video": str(clip),
        "conditions": [{"file": str(still), "frame_index": 8}],
    }


def test_each_medium_that_a_row_takes_changes_the_video(
    family, generator, request_of, media, tmp_path
):
    plain = pixels(
        generator.generate(request_of(fps=8, num_frames=17), tmp_path / "plain.mp4")
    )
    for field in family.variants()[0].media & media.keys():
        request = request_of(fps=8, num_frames=17, **{field: media[field]})
        made = pixels(generator.generate(request, tmp_path / f"{field}.mp4"))
        before = 9 - request.overlap_frames if field == "source_video" else 0
        assert len(made) == before + len(plain)
        assert not np.array_equal(made[before:], plain)


def test_a_cancel_acts_within_one_step_and_the_next_job_is_untouched(
    generator, request_of, tmp_path
):
    expected = pixels(generator.generate(request_of(), tmp_path / "a.mp4"))
    steps = []
    with pytest.raises(Cancelled):
        generator.generate(
            request_of(num_inference_steps=20),
            tmp_path / "b.mp4",
            on_event=lambda event: event.event == "step" and steps.append(event.step),
            is_cancelled=lambda: len(steps) >= 2,
        )
    assert steps == [1, 2]
    assert not (tmp_path / "b.mp4").exists()
    again = pixels(generator.generate(request_of(), tmp_path / "c.mp4"))
    assert np.array_equal(again, expected)


def test_a_cancel_while_decoding_leaves_the_model_sound(
    generator, request_of, tmp_path
):
    expected = pixels(generator.generate(request_of(), tmp_path / "a.mp4"))
    decoded = []
    with pytest.raises(Cancelled):
        generator.generate(
            request_of(num_frames=33),
            tmp_path / "b.mp4",
            on_event=lambda event: (
                event.event == "step"
                and event.phase == "decode"
                and decoded.append(event.step)
            ),
            is_cancelled=lambda: len(decoded) >= 2,
        )
    assert len(decoded) == 2
    again = pixels(generator.generate(request_of(), tmp_path / "c.mp4"))
    assert np.array_equal(again, expected)


def test_previews_are_small_pictures(generator, request_of, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.generate.PREVIEW_SECONDS", 0.0)
    monkeypatch.setattr("engine.generate.PREVIEW_SHARE", 1e9)
    events = []
    request = request_of(num_inference_steps=4)
    generator.generate(request, tmp_path / "a.mp4", on_event=events.append)
    previews = [event for event in events if event.event == "preview"]
    assert [preview.step for preview in previews] == [1, 2, 3]
    assert all(p.image.startswith("data:image/jpeg;base64,") for p in previews)
    assert all(len(p.image) < 50_000 for p in previews)
