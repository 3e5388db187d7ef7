"""What stands beside the fields."""

from app.ui.form_notes import length_note


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
