import json

import pytest

from engine.errors import UnreadableFile
from engine.lora.schedule import ScheduleError
from engine.lset import read_lset, split_multipliers
from engine.presets import open_preset, presets_for

KNOWN = ["pairs/low.safetensors", "night.safetensors"]


@pytest.mark.parametrize(
    ("text", "count", "values"),
    [
        ("", 2, ["1", "1"]),
        ("0.5", 2, ["0.5", "1"]),
        ("0.9,0.8 1;0", 2, ["0.9,0.8", "1;0"]),
        ("# the style\n1.2\n\n# the face\n0.7,0", 2, ["1.2", "0.7,0"]),
        ("1\r\n0.5", 2, ["1", "0.5"]),
    ],
)
def test_multipliers_are_divided_by_blanks_and_lines(text, count, values):
    assert split_multipliers(text, count) == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 x", r"2 \(x\) has 'x', which isn't a number"),
        ("1 2 3", "3 is of no LoRA: there are 2"),
        ("1e9 1", r"1 \(1e9\) has 1e9"),
    ],
)
def test_an_error_names_the_multiplier(text, said):
    with pytest.raises(ScheduleError, match=said):
        split_multipliers(text, 2)


def write(file, **values):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))
    return file


def test_a_preset_gives_loras_by_the_names_that_they_have_here(tmp_path):
    file = write(
        tmp_path / "a.lset",
        loras=["night.safetensors", "low.safetensors", "C:\\x\\gone.safetensors"],
        loras_mult="0.8 1;0",
        prompt="# by me\na ball\nat night",
        full_prompt=False,
    )
    assert read_lset(file, KNOWN) == {
        "loras": [
            {"name": "night.safetensors", "multiplier": "0.8"},
            {"name": "pairs/low.safetensors", "multiplier": "1;0"},
            {"name": "gone.safetensors", "multiplier": "1"},
        ],
        "prompt": "a ball\nat night",
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "isn't a JSON object"),
        ("{}", "no list of LoRAs"),
        ('{"loras": [1]}', "no list of LoRAs"),
        ('{"loras": ["a"], "loras_mult": 1}', "multipliers that aren't a text"),
        ('{"loras": ["a"], "loras_mult": "x"}', "multiplier 1 "),
        ("{", "isn't JSON"),
    ],
)
def test_a_broken_preset_says_why(tmp_path, content, said):
    file = tmp_path / "a.lset"
    file.write_text(content)
    with pytest.raises(UnreadableFile, match=said):
        read_lset(file, KNOWN)


def test_presets_among_the_loras_are_found(settings):
    folder = settings.root / "loras" / "wan"
    file = write(folder / "mine.lset", loras=["night.safetensors"])
    (folder / "night.safetensors").write_bytes(b"")
    found = presets_for("wan-demo", settings)
    assert found["mine.lset"] == file
    values = open_preset(file, "wan", settings).values
    assert values["loras"][0]["name"] == "night.safetensors"
