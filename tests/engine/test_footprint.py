import pytest
import torch
from diffusers import (
    HunyuanVideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    WanTransformer3DModel,
)

from engine.family import all_variants, get_variant
from engine.footprint import (
    GIB,
    PARTS,
    footprint,
    footprint_told,
    parts_of,
    tokens,
    working_bytes,
)
from engine.request import GenerationRequest

PLENTY = 512 * GIB


def request(model, width, height, num_frames, **values):
    defaults = get_variant(model).defaults
    return GenerationRequest(
        model=model,
        prompt="a",
        width=width,
        height=height,
        num_frames=num_frames,
        guidance_scale=values.pop("guidance_scale", defaults["guidance_scale"]),
        **values,
    )


def of(model, width, height, num_frames, *, vram, profile="auto", **values):
    asked = request(model, width, height, num_frames, **values)
    return footprint(get_variant(model), asked, profile, int(vram * GIB), PLENTY)


WAN = {"patch_size": (1, 2, 2), "text_dim": 4096}


@pytest.mark.parametrize(
    ("model", "kind", "config"),
    [
        (
            "wan2.1-t2v-1.3b",
            WanTransformer3DModel,
            {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30, **WAN},
        ),
        (
            "wan2.1-t2v-14b",
            WanTransformer3DModel,
            {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40, **WAN},
        ),
        ("ltxv-2b", LTXVideoTransformer3DModel, {}),
        (
            "ltxv-13b",
            LTXVideoTransformer3DModel,
            {
                "attention_head_dim": 128,
                "cross_attention_dim": 4096,
                "num_layers": 48,
            },
        ),
        ("hunyuan-video-t2v", HunyuanVideoTransformer3DModel, {}),
    ],
)
def test_parameters_are_those_of_the_network(model, kind, config):
    with torch.device("meta"):
        network = kind(**config)
    billions = sum(each.numel() for each in network.parameters()) / 1e9
    assert PARTS[model].billions == pytest.approx(billions, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "size", "count"),
    [
        ("wan2.1-t2v-14b", (832, 480, 81), 32_760),
        ("ltxv-2b-0.9.6", (1280, 704, 81), 9_680),
        ("hunyuan-video-t2v", (960, 544, 81), 42_840),
    ],
)
def test_tokens_are_counted_as_the_transformer_does(model, size, count):
    assert tokens(get_variant(model), request(model, *size)) == count


@pytest.mark.parametrize(
    ("model", "size", "measured"),
    [
        ("wan2.1-t2v-1.3b", (832, 480, 81), 4.2),
        ("wan2.1-t2v-14b", (832, 480, 81), 30.2),
        ("ltxv-13b-0.9.7", (1280, 704, 81), 25.5),
        ("hunyuan-video-t2v", (960, 544, 81), 28.4),
    ],
)
def test_a_forward_takes_what_was_measured_on_an_h100(model, size, measured):
    found = of(model, *size, vram=80, profile="1", guidance_scale=1.0)
    assert found.transformer + found.activations == pytest.approx(measured, rel=0.05)


def test_deeper_profiles_take_less():
    size = ("wan2.1-t2v-14b", 832, 480, 81)
    peaks = [of(*size, vram=48, profile=each).peak for each in ("1", "4", "5")]
    assert peaks == sorted(peaks, reverse=True)
    streamed = of(*size, vram=48, profile="4")
    # Measured with mmgp's profile 4 and a budget of 3000 MB: 6.4 GiB.
    assert streamed.transformer + streamed.activations < 6.4


def test_auto_is_what_the_loader_would_choose():
    size = ("wan2.1-t2v-1.3b", 832, 480, 81)
    assert of(*size, vram=80).profile is None
    assert of(*size, vram=14).profile == 6


def test_a_larger_video_leaves_less_room_for_the_weights():
    assert of("wan2.1-t2v-1.3b", 832, 480, 81, vram=17).profile is None
    assert of("wan2.1-t2v-1.3b", 1280, 720, 81, vram=17).profile == 6


def test_streaming_keeps_what_fits_beside_the_video():
    size = ("wan2.1-t2v-14b", 832, 480, 81)
    found = of(*size, vram=24, profile="6")
    working = working_bytes(get_variant(size[0]), request(*size)) / GIB
    assert found.transformer + found.vae + working == pytest.approx(24)
    assert found.peak < 24
    assert of(*size, vram=6, profile="6").transformer == pytest.approx(1.74)
    assert of(*size, vram=80, profile="6").transformer == pytest.approx(26.6, abs=0.1)


def test_longer_and_larger_videos_take_more_but_windows_do_not():
    def activations(model, *size):
        return of(model, *size, vram=80).activations

    base = activations("wan2.1-t2v-14b", 832, 480, 81)
    assert activations("wan2.1-t2v-14b", 832, 480, 161) == pytest.approx(base * 41 / 21)
    assert activations("wan2.1-t2v-14b", 1280, 720, 81) > 2 * base
    window = get_variant("skyreels-v2-df-14b-540p").window_frames
    assert activations(
        "skyreels-v2-df-14b-540p", 960, 544, 2 * window - 1
    ) == activations("skyreels-v2-df-14b-540p", 960, 544, window)


def test_guidance_doubles_what_ltx_sees():
    size = ("ltxv-13b-0.9.7", 1280, 704, 81)
    plain = of(*size, vram=80, guidance_scale=1.0).activations
    assert of(*size, vram=80, guidance_scale=4.0).activations == 2 * plain


def test_decoding_is_tiled_where_the_whole_does_not_fit():
    size = ("hunyuan-video-t2v", 832, 480, 81)
    assert of(*size, vram=80, profile="4").decoding == pytest.approx(21.7, abs=0.2)
    assert of(*size, vram=12, profile="4").decoding == pytest.approx(2.8, abs=0.2)


def test_it_is_told_with_what_there_is():
    found = of("wan2.1-t2v-14b", 832, 480, 81, vram=12)
    told = footprint_told(found, 12 * GIB)
    assert told.startswith(f"About {found.peak:.1f} of 12 GB of GPU memory")
    assert ", with memory profile 6" in told
    too_much = of("wan2.1-t2v-14b", 1280, 720, 81, vram=8)
    assert "That may be too much; fewer frames" in footprint_told(too_much, 8 * GIB)


def test_models_that_nothing_was_measured_of_have_none():
    for model in ("wan-demo", "hunyuan-video-1.5-t2v-480p", "wan2.2-ti2v-5b"):
        assert parts_of(get_variant(model)) is None
        assert of(model, 64, 64, 9, vram=80) is None
    known = [model for model in all_variants().values() if parts_of(model)]
    assert {each.family for each in known} == {"wan", "ltx_video", "hyvideo"}
