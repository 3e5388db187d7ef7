import math

import pytest

from engine.errors import OutOfMemory
from engine.family import LoadedModel
from engine.generate import Generator
from engine.loading.ladder import Ladder, smaller_tile
from engine.loading.placement import GIB
from engine.loading.resident import ResidentModel
from engine.media.video import read_frames
from engine.progress import Progress
from engine.validate import accept
from tests.fakes import FAMILY, VARIANT

pytestmark = pytest.mark.usefixtures("use_fake_family")


class OutOfMemoryError(RuntimeError):
    """As torch's own is called."""


class FailsAtFirst:
    """A verb of the family that runs out of memory so many times."""

    def __init__(self, verb, times):
        self.verb, self.times, self.calls = verb, times, 0

    def __call__(self, *args):
        self.calls += 1
        if self.calls <= self.times:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.verb(*args)


@pytest.fixture
def fails(monkeypatch):
    def fails(name, times):
        verb = FailsAtFirst(getattr(FAMILY, name), times)
        monkeypatch.setattr(FAMILY, name, verb)
        return verb

    return fails


@pytest.fixture
def request_of(settings):
    def request_of(**values):
        data = {"model": "fake-model", "prompt": "a red square", "seed": 5, **values}
        return accept(data, folder=None, settings=settings)

    return request_of


@pytest.fixture
def make(settings, tmp_path):
    """Makes a video; returns its frames and the warnings."""
    generator = Generator(settings)

    def make(request):
        events = []
        path = tmp_path / "a.mp4"
        generator.generate(request, path, on_event=events.append)
        warned = [event.message for event in events if event.event == "warned"]
        return [frame.tobytes() for frame in read_frames(path)], warned

    yield make
    generator.close()


CACHES = "out of memory; trying again with what was cached freed"
CHUNKS = "out of memory; trying again with its layers in chunks"


def tiles(pixels):
    return f"out of memory; trying again decoding in tiles of {pixels} pixels"


@pytest.mark.parametrize(
    ("verb", "times", "told"),
    [
        ("encode", 1, [CACHES]),
        ("denoise", 1, [CACHES]),
        ("denoise", 2, [CACHES, CHUNKS]),
        ("decode", 1, [CACHES]),
        ("decode", 4, [CACHES, tiles(512), tiles(256), tiles(128)]),
    ],
)
def test_each_rung_is_told_and_none_changes_the_video(
    make, fails, request_of, verb, times, told
):
    expected, quiet = make(request_of())
    assert quiet == []
    failing = fails(verb, times)
    made, warned = make(request_of())
    assert made == expected
    assert warned == told
    assert failing.calls == times + 1


def test_steps_are_not_made_again_for_a_decoding_that_failed(make, fails, request_of):
    denoise = fails("denoise", 0)
    decode = fails("decode", 3)
    make(request_of())
    assert (denoise.calls, decode.calls) == (1, 4)


def test_the_tiles_of_a_request_are_where_it_starts(make, fails, request_of):
    fails("decode", 2)
    assert make(request_of(vae_tile_size=256))[1] == [CACHES, tiles(128)]


@pytest.mark.parametrize(("verb", "times"), [("denoise", 3), ("decode", 6)])
def test_when_nothing_is_left_the_job_fails_with_numbers(
    make, fails, request_of, verb, times
):
    fails(verb, times)
    with pytest.raises(OutOfMemory, match="on cpu with fake-model at 64x48, 9 frames"):
        make(request_of())


def test_other_errors_are_not_tried_again(make, monkeypatch, request_of):
    calls = []

    def break_down(*_):
        calls.append(1)
        raise RuntimeError("a shape is wrong")

    monkeypatch.setattr(FAMILY, "denoise", break_down)
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        make(request_of())
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("tile", "least", "smaller"),
    [
        (None, 64, 512),
        (0, 64, 512),
        (512, 64, 256),
        (96, 64, None),
        (160, 64, 64),
        (None, 0, None),
    ],
)
def test_tiles_halve_down_to_the_smallest(tile, least, smaller):
    assert smaller_tile(tile, least) == smaller


def test_mmgps_profiles_come_before_chunks(settings, request_of, monkeypatch):
    """Where weights in 8 bits can't be streamed without it. And the next job on the
    same model begins with the profile that was needed."""
    monkeypatch.setattr("engine.loading.resident.can_stream", lambda pipeline: False)
    resident = ResidentModel(settings)
    placed = []

    def place(variant, pipeline, device, settings, progress, working):
        profile = None if settings.profile == "auto" else int(settings.profile)
        placed.append(profile)
        return LoadedModel(variant, pipeline, "cuda:0", profile=profile)

    monkeypatch.setattr("engine.loading.resident.place", place)
    ladder, progress = Ladder(request_of(), VARIANT, resident), Progress("job")
    told = []
    while True:
        resident.get(VARIANT, progress)
        rung = ladder.next_rung()
        if rung is None:
            break
        ladder.climb(rung, progress)
        told.append(rung.told)
    assert told == [
        "with what was cached freed",
        "with memory profile 1",
        "with memory profile 2",
        "with memory profile 5",
        "with its layers in chunks",
    ]
    assert placed == [None, 1, 2, 5]
    resident.release()
    resident.get(VARIANT, progress)
    assert placed[-1] == 5


def test_a_streamed_model_keeps_nothing_before_layers_are_computed_in_chunks(
    settings, request_of, monkeypatch
):
    monkeypatch.setattr("engine.loading.resident.can_stream", lambda pipeline: True)
    resident = ResidentModel(settings)
    left = []

    def place(variant, pipeline, device, settings, progress, working):
        left.append((settings.profile, working))
        profile = None if settings.profile == "auto" else int(settings.profile)
        return LoadedModel(
            variant, pipeline, "cuda:0", profile=profile, working=working
        )

    monkeypatch.setattr("engine.loading.resident.place", place)
    ladder, progress = Ladder(request_of(), VARIANT, resident), Progress("job")
    told = []
    while True:
        resident.get(VARIANT, progress, working=GIB)
        rung = ladder.next_rung()
        if rung is None:
            break
        ladder.climb(rung, progress)
        told.append(rung.told)
    assert told[1:] == ["with memory profile 6", "with its layers in chunks"]
    assert left == [("auto", GIB), ("6", math.inf)]


def test_without_a_loaded_model_there_is_no_deeper_profile(settings):
    assert ResidentModel(settings).deeper_profile is None
