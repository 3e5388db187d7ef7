import json

import pytest
from PIL import Image

from engine.errors import UnreadableFile
from engine.family import all_variants
from engine.presets import SHIPPED, list_presets, load_preset, merge
from engine.validate import accept


def test_shipped_presets_make_requests_that_the_demo_takes(settings):
    presets = list_presets(settings.presets, "wan")
    assert {preset.stem for preset in presets} == {"draft", "standard", "fine"}
    for preset in presets:
        values = load_preset(preset)
        request = merge(values, {"model": "wan-demo", "prompt": "a red ball"})
        accepted = accept(request, folder=None, settings=settings)
        assert values.items() <= accepted.model_dump().items()


@pytest.mark.parametrize(
    "variant",
    [v for v in all_variants().values() if v.family in ("ltx_video", "hyvideo")],
    ids=lambda variant: variant.id,
)
def test_every_model_takes_the_presets_of_its_family(variant, settings):
    picture = settings.outputs / "start.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(picture)
    media = dict.fromkeys(variant.required_media, str(picture))
    presets = list_presets(settings.presets, variant.family)
    assert {preset.stem for preset in presets} >= {"draft", "standard"}
    for preset in presets:
        values = load_preset(preset)
        given = {"model": variant.id, "prompt": "a red ball", **media}
        request = merge(values, given)
        accepted = accept(request, folder=None, settings=settings)
        assert values.items() <= accepted.model_dump().items()


def test_a_users_preset_hides_a_shipped_one_of_the_same_name(tmp_path):
    own = tmp_path / "wan" / "draft.json"
    own.parent.mkdir()
    own.write_text(json.dumps({"num_frames": 5}))
    presets = list_presets(tmp_path, "wan")
    assert own in presets
    assert SHIPPED / "wan" / "draft.json" not in presets
    assert SHIPPED / "wan" / "fine.json" in presets


def test_given_values_win_over_the_preset_and_missing_ones_do_not():
    preset = {"num_frames": 17, "width": 128}
    assert merge(preset, {"num_frames": 9, "width": None, "seed": 4}) == {
        "num_frames": 9,
        "width": 128,
        "seed": 4,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "isn't JSON"),
        ("[]", "isn't a JSON object"),
        ('{"steps": 3}', "has a field that no request has: 'steps'"),
    ],
)
def test_a_preset_that_is_no_part_of_a_request_is_refused(tmp_path, text, reason):
    file = tmp_path / "odd.json"
    file.write_text(text)
    with pytest.raises(UnreadableFile, match=reason):
        load_preset(file)
