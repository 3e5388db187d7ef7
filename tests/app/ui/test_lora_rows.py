import json

import pytest
import torch
from safetensors.torch import save_file

from app.ui.lora_form import browser_of
from app.ui.lora_rows import checked, in_request, shown_loras, to_be_fetched
from engine.family import get_variant
from engine.presets import Preset

WAN, LTX = get_variant("wan-demo"), get_variant("ltxv-demo")


@pytest.fixture
def put(settings):
    """Writes a small LoRA for Wan's demo model, with files beside it."""

    def put(name, family="wan", layer="blocks.0.self_attn.q", **beside):
        file = settings.root / "loras" / family / name
        file.parent.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"diffusion_model.{layer}.lora_A.weight": torch.zeros(4, 384),
            f"diffusion_model.{layer}.lora_B.weight": torch.zeros(384, 4),
        }
        save_file(tensors, file)
        for suffix, text in beside.items():
            file.with_suffix(f".{suffix}").write_text(text)
        return name

    return put


def test_rows_become_the_request_and_come_back_off_if_they_were(settings, put):
    loras = [{"name": put("a.safetensors"), "multiplier": "1,0.5"}]
    loras.append({"name": put("b.safetensors")})
    shown = shown_loras(loras, WAN, settings)
    assert [row["multiplier"] for row in shown["rows"]] == ["1,0.5", "1"]
    shown["rows"][0]["multiplier"] = " 0.8 "
    assert in_request(shown) == [
        {"name": "a.safetensors", "multiplier": 0.8},
        {"name": "b.safetensors", "multiplier": 1.0},
    ]
    shown["rows"][1]["on"] = False
    off = in_request(shown)
    assert [each.get("enabled") for each in off] == [None, False]
    again = shown_loras(off, WAN, settings)
    assert [(row["name"], row["on"]) for row in again["rows"]] == [
        ("a.safetensors", True),
        ("b.safetensors", False),
    ]


@pytest.mark.parametrize("value", [None, "", [], {"rows": "x"}, {"rows": [1, {}]}])
def test_what_is_no_list_of_rows_is_left_out(settings, value):
    assert in_request(value) == []
    assert all(not row["on"] for row in checked(value, WAN, settings)["rows"])


def test_a_missing_file_is_named_with_the_closest(settings, put):
    put("styles/night_city.safetensors")
    shown = shown_loras([{"name": "nightcity.safetensors"}], WAN, settings)
    (row,) = shown["rows"]
    assert row["problem"] == "not among the LoRAs of Wan"
    assert row["closest"] == "styles/night_city.safetensors"
    assert row["on"]


def test_another_familys_rows_stay_and_are_off(settings, put):
    shown = shown_loras([{"name": put("a.safetensors")}], WAN, settings)
    moved = checked(shown, LTX, settings)
    assert moved["family"] == "ltx_video"
    assert [(row["on"], row["problem"]) for row in moved["rows"]] == [
        (False, "not among the LoRAs of LTX Video")
    ]
    back = checked(moved, WAN, settings)
    assert [row["problem"] for row in back["rows"]] == [""]


def test_the_browser_tells_base_words_notes_and_what_does_not_fit(settings, put):
    about = {"activation text": "nightfall", "notes": "Dark <b>blue</b> &amp; calm"}
    put("styles/night.safetensors", json=json.dumps(about))
    put("other.safetensors", layer="transformer_blocks.0.attn1.to_q")
    put("plain.safetensors", txt="by hand")
    (settings.root / "loras" / "wan" / "bad.safetensors").write_bytes(b"<html>")
    found = {each["name"]: each for each in browser_of(settings)("wan")}
    night = found["styles/night.safetensors"]
    assert (night["base"], night["kind"]) == ("demo", "LoRA, rank 4")
    assert night["words"] == "nightfall"
    assert night["notes"] == "Dark  blue  & calm"
    assert night["refusal"] == ""
    assert found["plain.safetensors"]["notes"] == "by hand"
    assert "doesn't fit Wan" in found["other.safetensors"]["refusal"]
    assert "a web page" in found["bad.safetensors"]["refusal"]
    assert browser_of(settings)("no such family") == []


def test_a_picture_beside_the_file_is_shown_small(settings, put):
    from PIL import Image

    put("a.safetensors")
    folder = settings.root / "loras" / "wan"
    Image.new("RGB", (640, 480), (200, 30, 30)).save(folder / "a.png")
    (folder / "b.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
    (folder / "b.png").write_bytes(b"no picture")
    found = {each["name"]: each["picture"] for each in browser_of(settings)("wan")}
    assert found["a.safetensors"].startswith("data:image/jpeg;base64,")
    assert len(found["a.safetensors"]) < 5000
    assert found["b.safetensors"] == ""


def test_a_changed_file_is_looked_at_again(settings, put):
    put("a.safetensors")
    listed = browser_of(settings)
    assert listed("wan")[0]["refusal"] == ""
    file = settings.root / "loras" / "wan" / "a.safetensors"
    file.write_bytes(b"<html>")
    assert listed("wan")[0]["refusal"]


def test_links_of_missing_files_are_told(settings, put):
    put("here.safetensors")
    names = ["here.safetensors", "gone.safetensors"]
    links = {name: f"https://example.org/{name}" for name in names}
    preset = Preset({"loras": [{"name": name} for name in names]}, (), links)
    (said,) = to_be_fetched(preset, "wan", settings)
    assert "gone.safetensors isn't here yet; get it from https://example.org/g" in said
