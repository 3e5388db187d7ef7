"""What stands beside the fields."""

import pytest

from app.ui import form_notes
from app.ui.form_notes import guidance_note, length_note
from engine.settings import Settings

SETTINGS = Settings()


def test_a_length_is_told_in_seconds():
    note = length_note(SETTINGS, 33, 16.0, "wan-demo")
    assert note == '<p class="note" id="length-note">33 frames (2.1 s)</p>'


def test_sections_and_what_will_come_are_told_before_the_run():
    sections = "made in sections of 36 frames (1.2 s at 30 fps) and one frame more"
    assert f"145 frames (4.8 s), {sections}</p>" in length_note(
        SETTINGS, 145, 30.0, "framepack-i2v"
    )
    assert f"91 frames (3.0 s), {sections}: 73 or 109</p>" in length_note(
        SETTINGS, 91, 30.0, "framepack-i2v"
    )


def test_an_empty_length_has_no_note():
    assert length_note(SETTINGS, None, 30.0, "framepack-i2v").endswith(
        '"length-note"></p>'
    )


def test_each_kind_of_guidance_is_explained():
    cfg = guidance_note(SETTINGS, "wan-demo", "", 1.0, None)
    embedded = guidance_note(SETTINGS, "hunyuan-video-t2v", "", 6.0, 1.0)
    guider = guidance_note(SETTINGS, "hunyuan-video-1.5-t2v-480p", "", 6.0, None)
    assert "follows the prompt more strictly" in cfg
    assert "trained to take" in embedded
    assert "distilled" in guider
    assert not any("no effect" in note for note in (cfg, embedded, guider))


def test_a_negative_prompt_without_effect_is_told_beside_the_numbers():
    note = guidance_note(SETTINGS, "hunyuan-video-t2v", "blur <b>", 6.0, 1.0)
    assert 'role="status">The negative prompt has no effect: guidance_scale is' in note
    assert "no effect" not in guidance_note(
        SETTINGS, "hunyuan-video-t2v", "blur", 6.0, 2.0
    )


@pytest.fixture
def gpu_of(monkeypatch):
    """As if there were a GPU with so many GiB."""
    return lambda gib: monkeypatch.setattr(
        form_notes, "gpu_bytes", lambda _: gib and gib << 30
    )


def test_the_memory_of_a_video_grows_with_its_size(gpu_of, settings):
    gpu_of(12)
    model = "hunyuan-video-t2v"
    note = form_notes.memory_note(settings, model, 960, 544, 81)
    assert "of 12 GB of GPU memory" in note
    larger = form_notes.memory_note(settings, model, 1280, 720, 129)
    assert "That may be too much" not in note
    assert "That may be too much" in larger


@pytest.mark.parametrize("size", [(None, 480, 81), (832, 480, None)])
def test_a_size_that_is_being_typed_has_no_memory_note(gpu_of, settings, size):
    gpu_of(12)
    assert form_notes.memory_note(settings, "wan2.1-t2v-14b", *size) == ""


def test_without_a_gpu_or_figures_there_is_no_memory_note(gpu_of, settings):
    gpu_of(None)
    assert form_notes.memory_note(settings, "wan2.1-t2v-14b", 832, 480, 81) == ""
    gpu_of(12)
    assert form_notes.memory_note(settings, "wan-demo", 256, 256, 33) == ""
