import pytest
from pydantic import ValidationError

from engine import events

ALL = [
    events.Started(job="1", model="wan-demo", attempt=1),
    events.Phase(job="1", phase="load", message="loading the vae"),
    events.Step(
        job="1", phase="denoise", step=1, total=4, seconds_per_step=1, seconds_left=3
    ),
    events.Preview(job="1", step=1, image="data:image/jpeg;base64,AAAA"),
    events.Warned(job="1", message="é"),
    events.Saved(job="1", path="/tmp/a.mp4", seconds=9.5),
    events.Failed(job="1", error="no", detail="line 1\nline 2"),
    events.Stopped(job="1"),
]


@pytest.mark.parametrize("event", ALL, ids=lambda event: event.event)
def test_an_event_survives_the_way_through_a_line_of_json(event):
    line = events.dump(event)
    assert "\n" not in line
    assert events.load(line) == event


@pytest.mark.parametrize("line", ["{}", '{"event": "odd", "job": "1"}', "no"])
def test_what_is_no_event_is_refused(line):
    with pytest.raises(ValidationError):
        events.load(line)
