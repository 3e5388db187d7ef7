import json
import math
from pathlib import Path

import pytest
from PIL import Image

from engine.errors import RequestError, UnreadableFile
from engine.request import SEED_LIMIT, GenerationRequest
from engine.validate import MOST_JSON_BYTES, accept, read_json
from tests.fakes import VARIANT

PIN = {"file": "a.png", "frame_index": 0}
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

pytestmark = pytest.mark.usefixtures("use_fake_family")


@pytest.fixture
def problems(settings):
    """What ``accept`` says about the smallest request with these values, by field."""

    def problems(**values):
        data = {"model": "fake-model", "prompt": "a red square", **values}
        try:
            accept(data, folder=None, settings=settings)
        except RequestError as error:
            assert len({one.field for one in error.problems}) == len(error.problems)
            return {one.field: one.message for one in error.problems}
        return {}

    return problems


def test_the_smallest_request_gets_the_models_defaults_and_a_seed(settings):
    data = {"model": "fake-model", "prompt": "a red square"}
    first = accept(data, folder=None, settings=settings)
    defaults = {**VARIANT.defaults, "overlap_frames": None}  # without a source
    assert defaults.items() <= first.model_dump().items()
    assert 0 <= first.seed < SEED_LIMIT
    second = accept(data, folder=None, settings=settings)
    assert first.seed != second.seed
    assert None not in [
        value
        for name, value in first.model_dump().items()
        if name not in (*GenerationRequest.MEDIA_FIELDS, *OPTIONAL)
    ]


def test_accepting_an_accepted_request_changes_nothing(settings):
    data = {"model": "fake-model", "prompt": "a red square"}
    once = accept(data, folder=None, settings=settings)
    assert accept(once, folder=None, settings=settings) == once
    stored = json.loads(once.to_json())
    assert accept(stored, folder=None, settings=settings) == once


def test_given_values_win_over_the_models(settings):
    data = {
        "model": "fake-model",
        "prompt": "a red square",
        "width": 128,
        "seed": 0,
        "negative_prompt": "blur",
        "fps": 24,
    }
    request = accept(data, folder=None, settings=settings)
    assert (request.width, request.seed, request.fps) == (128, 0, 24.0)
    assert request.negative_prompt == "blur"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_frames", -1, "must be at least 1, is -1"),
        ("num_frames", 9.0, "must be a whole number, is 9.0"),
        ("num_frames", True, "must be a whole number, is true"),
        ("num_frames", "9", 'must be a whole number, is "9"'),
        ("num_frames", 8, "8 isn't 4k + 1; 5 and 9 are the nearest that work"),
        ("num_frames", 85, "fake-model makes at most 81 frames, not 85"),
        ("num_frames", 10**400, "must be at most 10000, is 1000"),
        ("width", 250, "250 isn't a multiple of 16; 256 is the nearest that works"),
        ("height", 16, "fake-model makes 32 to 512 pixels, not 16"),
        ("height", 4096, "fake-model makes 32 to 512 pixels, not 4096"),
        ("guidance_scale", math.nan, "must be a finite number, is NaN"),
        ("guidance_scale", math.inf, "must be a finite number, is Infinity"),
        ("guidance_scale", "high", 'must be a number, is "high"'),
        ("guidance_scale", True, "must be a number, is true"),
        ("flow_shift", 0, "must be more than 0, is 0"),
        ("fps", 0.5, "must be at least 1, is 0.5"),
        ("seed", SEED_LIMIT, "must be less than 4294967296, is 4294967296"),
        ("num_inference_steps", [4], "must be a whole number, is [4]"),
        ("prompt", "", "is empty"),
        ("prompt", " \n\t", "is empty; say what the video shows"),
        ("prompt", None, "must be text, is null"),
        ("prompt", "a\0b", "contains a NUL character; delete it"),
        ("prompt", "a\ud800b", "has a character that is cut in half; type it again"),
        ("prompt", "a" * 20_001, "must have at most 20000 characters"),
        ("negative_prompt", "\0", "contains a NUL character; delete it"),
        ("scheduler", "ddim", "fake-model has no scheduler 'ddim'; it has euler"),
        ("scheduler", "", "fake-model has no scheduler ''; it has euler"),
        ("image_refs", "a.png", 'must be a list, is "a.png"'),
        ("image_refs", ["a.png"] * 17, "must have at most 16 entries, has 17"),
        (
            "conditions",
            [{"file": "a.png", "frame_index": 0}] * 17,
            "must have at most 16 entries, has 17",
        ),
        (
            "conditions",
            [PIN, {**PIN, "strength": 1.5}],
            "condition 2: strength must be at most 1, is 1.5",
        ),
        (
            "conditions",
            [{**PIN, "strength": -1}],
            "condition 1: strength must be at least 0, is -1",
        ),
        (
            "conditions",
            [{**PIN, "frame_index": 1.5}],
            "condition 1: frame_index must be a whole number, is 1.5",
        ),
        ("conditions", [{"file": "a.png"}], "condition 1: frame_index is missing"),
        (
            "conditions",
            [{**PIN, "frame": 3}],
            "condition 1: frame is no such field; did you mean 'frame_index'?",
        ),
        (
            "conditions",
            ["a.png"],
            'condition 1: must be an object with file and frame_index, is "a.png"',
        ),
        ("conditions", PIN, "must be a list, is {"),
        ("overlap_frames", 0, "must be at least 1, is 0"),
        ("vae_tile_size", 1, "must be 0 (off) or at least 64, is 1"),
        ("vae_tile_size", 63, "must be 0 (off) or at least 64, is 63"),
        ("vae_tile_size", -1, "must be at least 0, is -1"),
        ("vae_tile_size", 100, "100 isn't a multiple of 32; 96 is the nearest that"),
        ("vae_tile_size", 65, "65 isn't a multiple of 32; 64 is the nearest that"),
        ("vae_tile_size", True, "must be a whole number, is true"),
        ("prompt", "a red square | ", "part 2 of 2 is empty; parts are separated by |"),
        ("prompt", "|", "part 1 of 2 is empty"),
        ("schema", 2, "must be at most 1, is 2"),
        ("num_frame", 9, "no such field; did you mean 'num_frames'?"),
        ("steps", 9, "no such field; did you mean 'num_inference_steps'?"),
        ("xyzzy", 9, "no such field"),
    ],
)
def test_a_wrong_value_is_refused_in_words(problems, field, value, message):
    found = problems(**{field: value})
    assert list(found) == [field]
    assert found[field].startswith(message)


def test_a_missing_field_is_named(settings):
    with pytest.raises(RequestError) as caught:
        accept({"model": "fake-model"}, folder=None, settings=settings)
    assert str(caught.value) == "prompt: is missing"


def test_an_unknown_model_gets_the_nearest_ones_or_else_all(problems):
    message = problems(model="fake-modle")["model"]
    assert "no model is called 'fake-modle'; did you mean 'fake-model" in message
    assert "wan-demo" not in message
    assert "known are: wan-demo, " in problems(model="sora")["model"]


def test_all_problems_are_told_at_once(problems):
    found = problems(prompt=" ", num_frames=-1, width=250, scheduler="x", nonsense=1)
    assert set(found) == {"prompt", "num_frames", "width", "scheduler", "nonsense"}


@pytest.mark.parametrize("data", [[], "text", 3, None, [{}], {1: 2}])
def test_what_is_no_object_is_refused(data, settings):
    with pytest.raises(RequestError, match="a request is a JSON object, not "):
        accept(data, folder=None, settings=settings)


def test_a_deeply_nested_value_is_refused_and_not_echoed(problems):
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    message = problems(seed=nested)["seed"]
    assert message == "must be a whole number, is list"


def test_a_long_value_is_cut_in_the_message(problems):
    assert len(problems(num_frames="9" * 10_000)["num_frames"]) < 120


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"prompt": ', r"request.json isn't JSON: .* at line 1, column 12"),
        (b"\xff\xfe{", "request.json isn't JSON"),
        (b"[" * 200_000, "request.json isn't a request: too deeply nested"),
        (b'{"seed": ' + b"9" * 10_000 + b"}", "request.json isn't JSON"),
        (b" " * (MOST_JSON_BYTES + 1), "request.json is larger than 16 MiB"),
    ],
)
def test_broken_json_is_refused_in_words(text, reason):
    with pytest.raises(UnreadableFile, match=reason):
        read_json(text, "request.json")


def test_nothing_is_written_for_a_refused_request(problems, settings):
    picture = settings.outputs / "start.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"picture")
    assert problems(image_start=str(picture), num_frames=-1)
    assert not settings.media.exists()


def test_a_medium_that_the_model_needs_is_asked_for(problems):
    needs = {"model": "wan2.1-i2v-14b-480p", "prompt": "a goat climbs"}
    assert problems(**needs) == {
        "image_start": "is missing: wan2.1-i2v-14b-480p needs a start image"
    }


def test_defaults_of_every_model_are_accepted(settings, accept_every_licence):
    from engine.family import all_variants

    picture = settings.outputs / "start.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(picture)
    for variant in all_variants().values():
        data = {"model": variant.id, "prompt": variant.prompt_hint}
        data |= dict.fromkeys(variant.required_media, str(picture))
        request = accept(data, folder=Path.cwd(), settings=settings)
        assert request.num_frames == variant.defaults["num_frames"]


@pytest.mark.parametrize("pixels", [None, 0, 64, 256])
def test_tiling_is_automatic_off_or_of_a_size_that_works(settings, pixels):
    data = {"model": "fake-model", "prompt": "a", "vae_tile_size": pixels}
    request = accept(data, folder=None, settings=settings)
    assert request.vae_tile_size == pixels


@pytest.mark.parametrize("pixels", [0, 256])
def test_tiling_is_refused_where_it_is_no_choice(problems, pixels):
    message = problems(model="fake-fetched", vae_tile_size=pixels)["vae_tile_size"]
    assert message == "fake-fetched has no tiling to choose; leave it out"


def test_a_bar_in_a_prompt_is_any_character_where_prompts_have_no_parts(problems):
    assert "prompt" not in problems(model="wan-demo", prompt="a | | b")


def test_a_key_that_is_no_text_is_refused(problems):
    assert problems(**{"\ud800": 1})


def test_a_name_longer_than_names_can_be_is_no_file(problems):
    assert problems(image_start="a" * 300 + ".png")
