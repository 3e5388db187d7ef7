"""What stands beside the fields."""

from app.ui.form_notes import guidance_note, length_note


def test_a_length_is_told_in_seconds():
    note = length_note(33, 16.0, "wan-demo")
    assert note == '<p class="note" id="length-note">33 frames (2.1 s)</p>'


def test_sections_and_what_will_come_are_told_before_the_run():
    sections = "made in sections of 36 frames (1.2 s at 30 fps) and one frame more"
    assert f"145 frames (4.8 s), {sections}</p>" in length_note(
        145, 30.0, "framepack-i2v"
    )
    assert f"91 frames (3.0 s), {sections}: 73 or 109</p>" in length_note(
        91, 30.0, "framepack-i2v"
    )


def test_an_empty_length_has_no_note():
    assert length_note(None, 30.0, "framepack-i2v").endswith('"length-note"></p>')


def test_each_kind_of_guidance_is_explained():
    cfg = guidance_note("wan-demo", "", 1.0, None)
    embedded = guidance_note("hunyuan-video-t2v", "", 6.0, 1.0)
    guider = guidance_note("hunyuan-video-1.5-t2v-480p", "", 6.0, None)
    assert "follows the prompt more strictly" in cfg
    assert "trained to take" in embedded
    assert "distilled" in guider
    assert not any("no effect" in note for note in (cfg, embedded, guider))


def test_a_negative_prompt_without_effect_is_told_beside_the_numbers():
    note = guidance_note("hunyuan-video-t2v", "blur <b>", 6.0, 1.0)
    assert 'role="status">The negative prompt has no effect: guidance_scale is' in note
    assert "no effect" not in guidance_note("hunyuan-video-t2v", "blur", 6.0, 2.0)
