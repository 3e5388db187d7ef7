"""Which tensors of a file are used, and why the others aren't."""

import json

import pytest

from engine.errors import UnreadableFile
from engine.loading.header import Header, TensorInfo
from engine.lora.names import names_of
from engine.lora.parts import place_of
from engine.lora.plan import Alphas, make_plan, read_alphas

NAMES = names_of("wan")
LAYER = "blocks.0.attn1.to_q"
SHAPES = {
    f"{LAYER}.weight": (8, 8),
    f"{LAYER}.bias": (8,),
    "patch_embedding.weight": (8, 4, 1, 2, 2),
}
LORA = {"lora_A.weight": (4, 8), "lora_B.weight": (8, 4)}


def plan(tensors, alphas=None, which="any"):
    infos = {name: TensorInfo("F32", shape) for name, shape in tensors.items()}
    return make_plan(Header(infos), NAMES, SHAPES, alphas=alphas, which=which)


def of_layer(parts, layer=LAYER):
    return {f"transformer.{layer}.{part}": shape for part, shape in parts.items()}


@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_a_dora_that_scales_rows_is_used(shape):
    made = plan(of_layer({**LORA, "dora_scale": shape}))
    assert len(made.layers) == 1
    assert not made.dropped


def test_a_dora_that_scales_columns_is_left_out_with_its_layer():
    made = plan(of_layer({**LORA, "dora_scale": (1, 8)}))
    assert not made.layers
    assert set(made.dropped.values()) == {
        "its DoRA scales inputs, which isn't supported"
    }


def test_a_dora_on_a_convolution_is_left_out():
    parts = {"lora_A.weight": (4, 16), "lora_B.weight": (8, 4), "dora_scale": (8, 1)}
    made = plan(of_layer(parts, "patch_embedding"))
    assert set(made.dropped.values()) == {"DoRA on a convolution isn't supported"}


@pytest.mark.parametrize(
    "second",
    [
        f"diffusion_model.{LAYER}.lora_A.weight",
        f"transformer.{LAYER}.lora_down.weight",
        f"transformer.{LAYER}.lora_A.other.weight",
    ],
)
def test_what_says_the_same_of_a_layer_once_more_is_reported(second):
    made = plan({**of_layer(LORA), second: (4, 8)})
    (reason,) = made.dropped.values()
    assert "already says this of the same layer" in reason
    assert len(made.layers) == 1


@pytest.mark.parametrize(
    "parts",
    [
        {"lora_A.weight": (0, 8), "lora_B.weight": (8, 0)},
        {"lora_A.weight": (1, 8), "lora_B.weight": (8,)},
        {"hada_w1_a": (8, 2), "hada_w1_b": (3, 8)}
        | {"hada_w2_a": (8, 2), "hada_w2_b": (2, 8)},
        {"hada_w1_a": (8, 2), "hada_w1_b": (2, 8)}
        | {"hada_w2_a": (6, 2), "hada_w2_b": (2, 8)},
        {"lokr_w1": (2, 2), "lokr_w2_a": (4, 2), "lokr_w2_b": (3, 4)},
        {**LORA, "alpha": (0,)},
        {**LORA, "scalar": (2,)},
        {**LORA, "diff": (8, 7)},
    ],
    ids=[
        "no rank",
        "a row",
        "LoHa",
        "LoHa's halves",
        "LoKr",
        "no alpha",
        "two scalars",
        "a difference of another size",
    ],
)
def test_factors_that_do_not_go_together_are_left_out(parts):
    made = plan(of_layer(parts))
    assert not made.layers
    assert len(made.dropped) == len(parts)


@pytest.mark.parametrize(
    ("patterns", "scale"),
    [
        ({LAYER: 8}, 2),
        ({"to_q": 8}, 2),
        ({r".*blocks\.0\..*": 8}, 2),
        ({"^other": 8, "to_q": 12}, 3),
        ({"to_q": 8, LAYER: 12}, 2),
        ({"(": 8}, 1),
        ([8], 1),
        ({LAYER: float("nan")}, 1),
    ],
)
def test_the_first_pattern_that_fits_gives_the_scale_as_in_peft(patterns, scale):
    alphas = Alphas({"r": 4, "lora_alpha": 4, "alpha_pattern": patterns})
    (layer,) = plan(of_layer(LORA), alphas).layers
    assert layer.scale == scale


def test_settings_nested_too_deeply_are_refused_in_a_sentence(tmp_path):
    text = "[" * 100_000
    for metadata in (text, json.dumps([1])):
        header = Header({}, {"lora_adapter_metadata": metadata})
        with pytest.raises(UnreadableFile, match="can't read the settings"):
            read_alphas(tmp_path / "a.safetensors", header)


@pytest.mark.parametrize(
    ("prefix", "style", "in_second"),
    [
        ("pipe.dit.", "DiffSynth", False),
        ("pipe.dit2.", "DiffSynth", True),
        ("pipe.vace.", "DiffSynth", False),
        ("module.", "bare names", False),
        ("base_model.model.module.", "PEFT", False),
    ],
)
def test_what_stands_before_a_layers_name_is_taken_off(prefix, style, in_second):
    place = place_of(f"{prefix}{LAYER}.lora_A.weight")
    assert (place.layer, place.part) == (LAYER, "down")
    assert (place.style, place.in_second) == (style, in_second)


def test_a_file_for_two_transformers_is_used_whole():
    for_both = {
        f"{network}.{LAYER}.{part}": shape
        for network in ("transformer", "transformer_2")
        for part, shape in LORA.items()
    }
    made = plan(for_both)
    assert len(made.matched) == len(for_both)
    assert not made.dropped
    alone = plan(for_both, which="only")
    assert len(alone.matched) == len(LORA)
    assert set(alone.dropped.values()) == {
        "it is for a second transformer, which the model doesn't have"
    }


def test_the_names_of_hunyuans_own_trainer_are_read():
    name = "Hunyuan_video_I2V_lora_double_blocks_0_img_attn_qkv.lora_down.weight"
    place = place_of(name)
    found = names_of("hyvideo").find(place.layer, is_flat=place.is_flat)
    wanted = tuple(f"transformer_blocks.0.attn.to_{each}" for each in "qkv")
    assert wanted in [row.targets for row in found]
