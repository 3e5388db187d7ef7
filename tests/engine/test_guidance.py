"""Three kinds of guidance, told apart by what a request may say to each."""

import pytest

from engine.errors import RequestError
from engine.events import Warned
from engine.family import all_variants, get_variant
from engine.generate import generate
from engine.guidance import is_guided, unused_negative_prompt
from engine.validate import accept

CFG, EMBEDDED, GUIDER = (
    "wan2.1-t2v-1.3b",
    "hunyuan-video-t2v",
    "hunyuan-video-1.5-t2v-480p",
)

pytestmark = pytest.mark.usefixtures("use_fake_family", "accept_every_licence")


@pytest.fixture
def problems(settings):
    def problems(model, **values):
        try:
            asked = {"model": model, "prompt": "a ball", **values}
            accept(asked, folder=None, settings=settings)
        except RequestError as error:
            return {each.field: each.message for each in error.problems}
        return {}

    return problems


def test_each_row_of_hunyuan_video_has_its_kind():
    kinds = {
        row.id: row.guidance
        for row in all_variants().values()
        if row.family == "hyvideo"
    }
    for model, kind in kinds.items():
        if "1.5" in model:
            assert kind == "guider"
    assert kinds[EMBEDDED] == kinds["framepack-i2v"] == "embedded"
    assert kinds["hunyuan-video-i2v-33ch"] == kinds["hyvideo-demo"] == "cfg"


@pytest.mark.parametrize("model", [CFG, GUIDER, "wan-demo", "ltxv-demo"])
def test_true_cfg_is_refused_where_guidance_isnt_embedded(problems, model):
    assert problems(model, true_cfg_scale=2.0) == {
        "true_cfg_scale": f"{model} is guided by guidance_scale alone; leave it out"
    }
    assert problems(EMBEDDED, true_cfg_scale=2.0) == {}


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_the_guider_takes_no_guidance_below_1(problems, scale):
    assert problems(GUIDER, guidance_scale=scale) == {
        "guidance_scale": f"must be 1, which turns the guider of {GUIDER} off, or "
        f"more, is {scale:g}"
    }
    assert problems(GUIDER, guidance_scale=1.0) == {}
    assert problems(CFG, guidance_scale=scale) == {}


@pytest.mark.parametrize(
    ("model", "scale", "true_scale", "guided"),
    [
        (CFG, 1.0, None, False),
        (CFG, 1.5, None, True),
        (EMBEDDED, 6.0, 1.0, False),
        (EMBEDDED, 6.0, None, False),
        (EMBEDDED, 1.0, 1.5, True),
        (GUIDER, 1.0, None, False),
        (GUIDER, 6.0, None, True),
    ],
)
def test_a_step_asks_twice_by_the_kind(model, scale, true_scale, guided):
    variant = get_variant(model)
    assert is_guided(variant, scale, true_scale) is guided
    note = unused_negative_prompt(variant, "blur", scale, true_scale)
    assert (note is None) is guided


def test_the_note_says_what_would_make_it_count():
    embedded = unused_negative_prompt(get_variant(EMBEDDED), "blur", 6.0, 1.0)
    assert embedded is not None
    assert "a true_cfg_scale above 1 makes it count" in embedded
    cfg = unused_negative_prompt(get_variant(CFG), "blur", 1.0, None)
    assert cfg == "the negative prompt has no effect without a guidance_scale above 1"


def test_the_models_own_negative_prompt_is_no_ones_mistake():
    for variant in all_variants().values():
        own = variant.defaults["negative_prompt"]
        for written in (own, "", None, f" {own} "):
            assert unused_negative_prompt(variant, written, 1.0, 1.0) is None


def test_a_negative_prompt_without_effect_is_told_once_when_it_starts(
    settings, tmp_path
):
    def warnings(**values):
        heard = []
        asked = {"model": "fake-model", "prompt": "a red square", "seed": 1, **values}
        generate(
            asked, output=tmp_path / "a.mp4", settings=settings, on_event=heard.append
        )
        return [event.message for event in heard if isinstance(event, Warned)]

    assert warnings(negative_prompt="blur") == [
        "the negative prompt has no effect without a guidance_scale above 1"
    ]
    assert warnings(negative_prompt="blur", guidance_scale=2.0) == []
    assert warnings() == []
