import pytest

from engine.errors import Cancelled
from engine.progress import Progress, never


def test_steps_carry_pace_and_time_left(monkeypatch):
    now = 100.0
    monkeypatch.setattr("engine.progress.time.monotonic", lambda: now)
    events = []
    progress = Progress("job", events.append, never)
    progress.begin("denoise")
    now = 106.0
    progress.step(3, 10)
    assert events[0].event == "phase"
    step = events[1]
    assert (step.phase, step.step, step.total) == ("denoise", 3, 10)
    assert step.seconds_per_step == 2.0
    assert step.seconds_left == 14.0


def test_the_pace_starts_anew_with_each_phase_but_not_with_its_parts(monkeypatch):
    now = 0.0
    monkeypatch.setattr("engine.progress.time.monotonic", lambda: now)
    events = []
    progress = Progress("job", events.append, never)
    progress.begin("denoise")
    now = 10.0
    progress.begin("denoise", "the second half")
    progress.step(1, 2)
    assert events[-1].seconds_per_step == 10.0
    progress.begin("decode")
    now = 11.0
    progress.step(1, 2)
    assert events[-1].seconds_per_step == 1.0


@pytest.mark.parametrize("call", ["check", "begin", "step"])
def test_a_cancelled_job_stops_at_its_next_word(call):
    events = []
    progress = Progress("job", events.append, lambda: True)
    calls = {
        "check": progress.check,
        "begin": lambda: progress.begin("encode"),
        "step": lambda: progress.step(1, 2),
    }
    with pytest.raises(Cancelled, match="job job was cancelled"):
        calls[call]()
    assert events == []
