import json

import pytest

from engine.events import Phase, Preview, Saved, Started, Step, Timing, dump, load
from engine.generate import Generator
from engine.timing import Stopwatch, timing_told
from engine.validate import accept


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def step(done, phase="denoise"):
    return Step(
        job="a", phase=phase, step=done, total=3, seconds_per_step=0, seconds_left=0
    )


def phase(name, message=""):
    return Phase(job="a", phase=name, message=message)


PREVIEW = Preview(job="a", step=1, image="data:,")
STORY = [
    (0.0, Started(job="a", model="fake-model", attempt=1)),
    (0.5, phase("load")),
    (1.0, phase("download")),
    (4.0, step(1, "download")),
    (1.0, phase("load", "loading the VAE")),
    (2.0, phase("encode")),
    (0.25, phase("denoise")),
    (9.0, step(1)),
    (0.5, PREVIEW),
    (2.0, step(2)),
    (2.0, phase("denoise", "second pass")),
    (1.0, step(3)),
    (0.0, phase("decode")),
    (3.0, step(1, "decode")),
    (0.0, phase("write")),
]


def timed(story):
    clock = Clock()
    stopwatch = Stopwatch(clock)
    for seconds, event in story:
        clock.now += seconds
        stopwatch.on_event(event)
    clock.now += 0.125
    return stopwatch.finish(peak_gib=9.375)


def test_each_second_belongs_to_one_phase():
    timing = timed(STORY)
    assert (timing.download, timing.load, timing.encode) == (5.0, 3.5, 0.25)
    assert (timing.denoise, timing.decode, timing.write) == (14.5, 3.0, 0.125)
    parts = ("download", "load", "encode", "denoise", "decode", "write")
    whole = sum(seconds for seconds, _ in STORY) + 0.125
    assert sum(getattr(timing, part) for part in parts) == pytest.approx(whole)


def test_steps_are_timed_without_previews_and_without_the_first():
    timing = timed(STORY)
    assert (timing.steps, timing.first_step) == (3, 9.0)
    assert timing.seconds_per_step == 2.5  # of 2 and 3
    assert timing.previews == 0.5


def test_it_is_told_in_one_line():
    assert timing_told(timed(STORY)) == (
        "download 5 s, loading 3.5 s, prompt 0.25 s, 3 steps of 2.5 s (the first 9 s, "
        "previews 3% of it), decoding 3 s, writing 0.12 s, at most 9.4 GiB of GPU "
        "memory"
    )
    cached = Timing(
        steps=20, seconds_per_step=1, transformer_calls=40, forecast_calls=22
    )
    assert timing_told(cached) == "20 steps of 1 s (18 of 40 calls computed)"
    quick = Timing(denoise=150, steps=1, first_step=150, seconds_per_step=150)
    assert timing_told(quick) == "1 step of 2 min 30 s"
    assert timing_told(Timing()) == ""


def test_it_travels_with_the_saved_event():
    saved = Saved(job="a", path="/out/a.mp4", seconds=30, timing=timed(STORY))
    assert load(dump(saved)) == saved
    assert json.loads(dump(saved))["timing"]["steps"] == 3


def test_a_job_is_timed_by_its_own_events(use_fake_family, settings, tmp_path):
    data = {"model": "fake-model", "prompt": "a slow red square", "seed": 1}
    request = accept(data, folder=None, settings=settings)
    generator, stopwatch = Generator(settings), Stopwatch()
    generator.generate(request, tmp_path / "a.mp4", on_event=stopwatch.on_event)
    timing = stopwatch.finish(**generator.counted)
    assert timing.steps == 4
    assert 0.05 <= timing.seconds_per_step < 0.1
    assert timing.denoise >= 0.2
    assert timing.decode > 0
    assert timing.write > 0
    assert timing.peak_gib is None  # it ran on the CPU
