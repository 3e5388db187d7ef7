"""What every family promises to the engine, with tiny weights or none."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from engine.errors import Cancelled, RequestError
from engine.family import FAMILIES, all_variants, get_family, get_variant
from engine.generate import Generator
from engine.media.inputs import portable
from engine.media.metadata import read_request
from engine.media.video import VideoWriter, probe, read_frames
from engine.request import GenerationRequest
from engine.settings import Settings
from engine.validate import accept
from tests import tiny_wan_rows
from tests.fakes import register_fake_family
from tests.tiny_hyvideo import DEMO_CHANNELS, write_tiny_hyvideo
from tests.tiny_ltx import write_tiny_ltx
from tests.tiny_wan import write_tiny_wan
from tests.tiny_wan_rows import write_tiny_row

TINY_WEIGHTS = {
    "wan-demo": write_tiny_wan,
    "ltxv-demo": write_tiny_ltx,
    "hyvideo-demo": partial(write_tiny_hyvideo, channels=DEMO_CHANNELS),
    "fake-model": lambda folder: folder,
    **{model: partial(write_tiny_row, model) for model in tiny_wan_rows.WRITERS},
}
"""How to write a model in tiny: a new family adds a line for its first one, and one for
each that is made of other parts."""

OPTIONAL = (
    "overlap_frames",
    "vae_tile_size",
    "true_cfg_scale",
    "guidance_scale_2",
    "strength",
    "ar_step",
    "step_cache",
    "step_cache_threshold",
)
"""Fields that may stay empty."""


@pytest.fixture(scope="module")
def families():
    """All of them, and the one that is told how to fail."""
    before = dict(FAMILIES)
    register_fake_family()
    yield [get_family(name) for name in FAMILIES]
    FAMILIES.clear()
    FAMILIES.update(before)


@pytest.fixture(scope="module", params=TINY_WEIGHTS)
def row(request, families):
    return get_variant(request.param)


@pytest.fixture(scope="module")
def root(row, tmp_path_factory):
    """A data root with tiny weights of the row."""
    root = tmp_path_factory.mktemp(row.id)
    TINY_WEIGHTS[row.id](root / "ckpts" / row.folder)
    return root


@pytest.fixture
def settings(settings, root):
    return settings.model_copy(update={"root": root})


@pytest.fixture
def request_of(row, settings, media):
    """A small request with what the row can't do without."""

    def request_of(**values):
        needed = {field: media[field] for field in row.required_media}
        width, height = small_size(row)
        size = {"width": width, "height": height, "num_frames": short(row)}
        few = {"num_inference_steps": 2, "seed": 1}
        data = {"model": row.id, "prompt": "a red ball", **few, **size, **needed}
        return accept({**data, **values}, folder=None, settings=settings)

    return request_of


@pytest.fixture
def media(settings):
    return media_in(settings.outputs)


def media_in(folder):
    """A value for each media field that a model may take."""
    folder.mkdir(parents=True, exist_ok=True)
    still, clip = folder / "still.png", folder / "clip.mp4"
    Image.new("RGB", (96, 64), (250, 250, 250)).save(still)
    with VideoWriter(clip, width=96, height=64, fps=8.0, tags={}) as video:
        video.write(np.full((17, 64, 96, 3), 250, np.uint8))
    return {
        "image_start": str(still),
        "image_end": str(still),
        "image_refs": [str(still)],
        "control_video": str(clip),
        "control_mask": str(still),
        "source_video": str(clip),
        "conditions": [{"file": str(still), "frame_index": 8}],
    }


@pytest.fixture(scope="module")
def generator(root):
    """One for all tests of a row: none may leave anything behind."""
    generator = Generator(Settings(root=root, gpu="cpu"))
    yield generator
    generator.close()


def small_size(row):
    """A small one, of what the row makes."""
    least = row.limits.min_size
    return max(64, least), max(32, least)


def short(row):
    """Frames of the shortest video that moves: of two latent ones."""
    return row.limits.frames_multiple + 1


def pixels(video):
    return np.stack(list(read_frames(video)))


def test_each_row_is_complete_and_its_defaults_are_accepted(
    families, accept_every_licence, tmp_path
):
    settings = Settings(root=tmp_path)
    media = media_in(settings.outputs)
    fields = set(GenerationRequest.model_fields)
    for variant in all_variants().values():
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
        used = {"continue": "overlap_frames", "transform": "strength"}
        with_source = used[variant.source_video_use]
        assert (with_source in variant.defaults) == ("source_video" in variant.media)
        for field, default in variant.defaults.items():
            if field != with_source:
                assert getattr(request, field) == default
        unset = {name for name in fields if getattr(request, name) is None}
        assert unset <= {*GenerationRequest.MEDIA_FIELDS, *OPTIONAL}


def test_ids_are_kebab_case_and_differ(families):
    rows = [row for family in families for row in family.variants()]
    assert all(
        row.family == family.name for family in families for row in family.variants()
    )
    assert all(row.id == row.id.lower() and " " not in row.id for row in rows)
    assert len({row.id for row in rows}) == len(rows)


def test_a_request_becomes_a_right_video(
    row, generator, settings, request_of, tmp_path
):
    request = request_of()
    video = generator.generate(request, tmp_path / "a.mp4")
    info = probe(video)
    assert (info.width, info.height) == small_size(row)
    assert info.num_frames == short(row)
    assert info.fps == pytest.approx(request.fps, abs=0.01)
    assert read_request(video) == portable(request, settings)


def test_phases_and_steps_are_told_in_order(row, generator, request_of, tmp_path):
    events = []
    request = request_of(num_inference_steps=3)
    generator.generate(request, tmp_path / "a.mp4", on_event=events.append)
    phases = dict.fromkeys(e.phase for e in events if e.event == "phase")
    assert list(phases) == ["load", "encode", "denoise", "decode", "write"]
    steps = [e for e in events if e.event == "step"]
    denoised = [(e.step, e.total) for e in steps if e.phase == "denoise"]
    assert denoised == [(1, 3), (2, 3), (3, 3)]
    decoded = [e.step for e in steps if e.phase == "decode"]
    assert decoded[-1] == short(row)
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


def test_every_scheduler_of_a_row_makes_a_video(row, generator, request_of, tmp_path):
    for name in row.schedulers:
        video = generator.generate(request_of(scheduler=name), tmp_path / "a.mp4")
        assert probe(video).num_frames == short(row)


def test_a_single_frame_can_be_made(row, generator, request_of, tmp_path):
    if {"image_start", "image_end"} <= row.required_media:
        with pytest.raises(RequestError, match="num_frames: must be at least 5"):
            request_of(num_frames=1)
        return
    video = generator.generate(request_of(num_frames=1), tmp_path / "a.mp4")
    assert probe(video).num_frames == 1


def test_each_medium_that_a_row_takes_changes_the_video(
    row, generator, request_of, media, tmp_path
):
    plain = pixels(
        generator.generate(request_of(fps=8, num_frames=17), tmp_path / "plain.mp4")
    )
    for field in row.media - row.required_media:
        given = {field: media[field]}
        if field == "control_mask":
            given["control_video"] = media["control_video"]
        if field == "source_video" and row.source_video_use == "continue":
            given["overlap_frames"] = 9
        request = request_of(fps=8, num_frames=17, **given)
        made = pixels(generator.generate(request, tmp_path / f"{field}.mp4"))
        before = 17 - request.overlap_frames if request.overlap_frames else 0
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


def test_a_step_cache_saves_calls_and_leaves_nothing_behind(
    row, generator, request_of, tmp_path
):
    """Under guidance, after a cancel, too."""
    values = {"num_inference_steps": 12, "guidance_scale": 3.0}
    cached = {**values, "step_cache": "forecast", "step_cache_threshold": 1.0}
    expected = pixels(generator.generate(request_of(**values), tmp_path / "a.mp4"))
    generator.generate(request_of(**cached), tmp_path / "b.mp4")
    counted = generator.counted
    if row.family != "fake":  # it has no transformer
        assert 0 < counted["forecast_calls"] < counted["transformer_calls"]
    steps = []
    with pytest.raises(Cancelled):
        generator.generate(
            request_of(**cached),
            tmp_path / "c.mp4",
            on_event=lambda event: steps.append(event.event == "step"),
            is_cancelled=lambda: sum(steps) >= 5,
        )
    again = pixels(generator.generate(request_of(**values), tmp_path / "d.mp4"))
    assert np.array_equal(again, expected)
    assert "forecast_calls" not in generator.counted


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
