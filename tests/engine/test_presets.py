import json

import pytest
from PIL import Image

from engine.errors import UnreadableFile, UserError
from engine.family import all_variants, get_variant
from engine.presets import (
    SHIPPED,
    list_presets,
    merge,
    presets_for,
    read_preset,
    save_preset,
)
from engine.validate import accept


def test_shipped_presets_make_requests_that_the_demo_takes(settings):
    presets = presets_for("wan-demo", settings)
    assert set(presets) == {"draft", "standard", "fine"}
    for preset in presets.values():
        values = read_preset(preset).values
        request = merge(values, {"model": "wan-demo", "prompt": "a red ball"})
        accepted = accept(request, folder=None, settings=settings)
        assert values.items() <= accepted.model_dump().items()


@pytest.mark.parametrize(
    "variant",
    [v for v in all_variants().values() if v.family in ("ltx_video", "hyvideo")],
    ids=lambda variant: variant.id,
)
@pytest.mark.usefixtures("accept_every_licence")
def test_every_model_takes_the_presets_of_its_family(variant, settings):
    picture = settings.outputs / "start.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(picture)
    media = dict.fromkeys(variant.required_media, str(picture))
    presets = list_presets(settings.presets, variant.family)
    assert {preset.stem for preset in presets} >= {"draft", "standard"}
    for preset in presets:
        values = read_preset(preset).values
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
        read_preset(file)


def test_a_saved_preset_is_read_again(settings):
    values = {
        "model": "wan-demo",
        "prompt": "a red ball",
        "seed": 4,
        "image_start": "x.png",
        "num_frames": 9,
        "loras": [{"name": "a.safetensors", "multiplier": "1,0"}],
    }
    file = save_preset(settings.presets, "wan", " night ", values)
    assert read_preset(file).values == {
        "prompt": "a red ball",
        "num_frames": 9,
        "loras": [{"name": "a.safetensors", "multiplier": "1,0"}],
    }
    assert presets_for("wan-demo", settings)["night"] == file
    save_preset(settings.presets, "wan", "night", {"num_frames": 5})
    assert read_preset(file).values == {"num_frames": 5}
    assert [each.name for each in file.parent.iterdir()] == ["night.json"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", ".x", "x" * 90, "a.", "a\n"])
def test_names_that_are_no_file_names_are_refused(settings, name):
    with pytest.raises(UserError, match="can't be a preset's name"):
        save_preset(settings.presets, "wan", name.replace("a\n", "a\nb"), {})
    assert not settings.presets.exists()


def test_a_preset_for_some_models_is_listed_for_them_only(settings):
    folder = settings.presets / "wan"
    folder.mkdir(parents=True)
    preset = {"models": ["wan2.1-t2v-14b"], "num_inference_steps": 4}
    (folder / "fast.json").write_text(json.dumps(preset))
    assert "fast" in presets_for("wan2.1-t2v-14b", settings)
    assert "fast" not in presets_for("wan-demo", settings)
    (folder / "broken.json").write_text("{")
    assert "broken" in presets_for("wan-demo", settings)


@pytest.mark.parametrize(
    "more", [{"models": "wan"}, {"links": []}, {"links": {"a": "file:///x"}}]
)
def test_models_and_links_are_checked(tmp_path, more):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(more))
    with pytest.raises(UnreadableFile, match=next(iter(more))):
        read_preset(file)


FAST = [
    (model, file)
    for file in sorted((SHIPPED / "wan").glob("*.json"))
    for model in read_preset(file).models
]


@pytest.mark.parametrize(("model", "file"), FAST, ids=str)
def test_presets_for_speed_set_everything_together(model, file, settings):
    preset = read_preset(file)
    values = dict(preset.values)
    loras = values.pop("loras")
    assert values["guidance_scale"] == 1.0
    assert values["num_inference_steps"] <= 10
    assert {"flow_shift", "scheduler"} <= values.keys()
    for lora in loras:
        link = preset.links[lora["name"]]
        assert link.startswith("https://huggingface.co/")
        assert link.endswith("/" + lora["name"])
    picture = settings.outputs / "start.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(picture)
    media = dict.fromkeys(get_variant(model).required_media, str(picture))
    given = {"model": model, "prompt": "a red ball", **media}
    accepted = accept(merge(values, given), folder=None, settings=settings)
    assert values.items() <= accepted.model_dump().items()
    assert file.stem in presets_for(model, settings)
