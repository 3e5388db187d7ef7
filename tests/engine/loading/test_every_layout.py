"""Every layout of every family: the video is the same, whatever the file looks like."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel, WanVACETransformer3DModel
from transformers import UMT5EncoderModel

from engine.family import LoadedModel, get_family, get_variant
from engine.loading.checkpoint import load_component
from engine.loading.weights import components_in
from engine.settings import PROJECT, Settings
from engine.validate import check
from tests import tiny_hyvideo, tiny_ltx, tiny_wan
from tests.authors_names import (
    hunyuan_transformer,
    ltx_transformer,
    ltx_vae,
    umt5,
    wan_transformer,
    wan_vae,
)
from tests.engine.loading.test_checkpoint import assert_same, randomised
from tests.layout_writers import LOSSLESS, PACKED, is_linear, to_fp8, to_int8

SHIPPED = PROJECT / "ckpts" / "demo" / "wan"

MODELS = {
    "wan-demo": (tiny_wan.write_tiny_wan, wan_transformer),
    "ltxv-demo": (tiny_ltx.write_tiny_ltx, ltx_transformer),
    "hyvideo-demo": (tiny_hyvideo.write_tiny_hyvideo, hunyuan_transformer),
}
"""Row → what writes its tiny model, and its authors' names of the transformer."""


def own_names(network):
    return {name: x.contiguous() for name, x in network.state_dict().items()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a row's tiny model, its pipeline and its video, made once."""
    made = {}

    def tiny(row):
        if row not in made:
            folder = MODELS[row][0](tmp_path_factory.mktemp(row))
            pipeline = load(row, folder)
            made[row] = folder, pipeline, video_of(row, pipeline)
        return made[row]

    return tiny


def load(row, folder, **replaced):
    variant = get_variant(row)
    weights = {**components_in(folder), **replaced}
    return get_family(variant.family).load(variant, weights, "float32", str)


def video_of(row, pipeline, **values):
    """Frames, uint8 (frames, height, width, 3)."""
    variant = get_variant(row)
    family, model = get_family(variant.family), LoadedModel(variant, pipeline)
    smallest = {"width": 64, "height": 64, "num_frames": 9, "num_inference_steps": 2}
    prompt = "a red ball moving left on grass at day"
    data = {"model": row, "prompt": prompt, "seed": 3, **smallest, **values}
    request = check(data, folder=None, settings=Settings())
    request = request.with_values(seed=3)
    conditioning = family.encode(model, request)
    latents = family.denoise(model, conditioning, request, lambda *_: None, str)
    return np.concatenate(list(family.decode(model, latents, request)))


def rewritten(folder, target, component, tensors, write):
    """``component`` of ``folder`` in another layout: its configuration beside it."""
    target.mkdir()
    shutil.copy(folder / component / "config.json", target)
    write(tensors, target)
    return target


def psnr(one, other):
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return 10 * np.log10(255**2 / error) if error else np.inf


@pytest.mark.parametrize("row", MODELS)
@pytest.mark.parametrize("whose", ["authors", "diffusers"])
@pytest.mark.parametrize("layout", LOSSLESS)
def test_the_video_is_the_same_to_the_bit(tiny, tmp_path, row, whose, layout):
    folder, original, video = tiny(row)
    names = MODELS[row][1] if whose == "authors" else own_names
    tensors = names(original.transformer)
    target = tmp_path / "transformer"
    rewritten(folder, target, "transformer", tensors, LOSSLESS[layout])
    loaded = load(row, folder, transformer=target)
    assert_same(original.transformer, loaded.transformer)
    assert np.array_equal(video_of(row, loaded), video)


@pytest.mark.parametrize("row", MODELS)
@pytest.mark.parametrize("layout", PACKED)
def test_8_bits_give_nearly_the_same_video(tiny, tmp_path, row, layout):
    folder, original, video = tiny(row)
    tensors = MODELS[row][1](original.transformer)
    target = tmp_path / "transformer"
    rewritten(folder, target, "transformer", tensors, PACKED[layout])
    loaded = load(row, folder, transformer=target)
    packed = loaded.transformer.state_dict()
    plain = original.transformer.state_dict()
    changed = [name for name in plain if not torch.equal(plain[name], packed[name])]
    assert len(changed) >= 2
    assert all(is_linear(name, plain[name]) for name in changed)
    assert {tensor.dtype for tensor in packed.values()} == {torch.float32}
    assert psnr(video_of(row, loaded), video) >= 35


@pytest.mark.demo
@pytest.mark.parametrize("layout", PACKED)
def test_8_bits_give_nearly_the_same_video_of_the_shipped_model(
    tmp_path, shipped, layout
):
    original, video = shipped
    tensors = wan_transformer(original.transformer)
    target = tmp_path / "transformer"
    rewritten(SHIPPED, target, "transformer", tensors, PACKED[layout])
    loaded = load("wan-demo", SHIPPED, transformer=target)
    again = video_of("wan-demo", loaded, **SHIPPED_SIZE)
    assert psnr(again, video) >= 35
    assert not np.array_equal(again, video)


SHIPPED_SIZE = {"width": 128, "height": 128, "num_inference_steps": 6}


@pytest.fixture(scope="module")
def shipped():
    pipeline = load("wan-demo", SHIPPED)
    return pipeline, video_of("wan-demo", pipeline, **SHIPPED_SIZE)


@pytest.mark.parametrize(
    ("layout", "pack"),
    [
        ("scaled fp8", to_fp8),
        ("scaled fp8, later names", to_fp8),
        ("quanto int8", to_int8),
    ],
)
def test_scales_are_applied(tiny, tmp_path, layout, pack):
    """Also where one weight of the file becomes three of the network."""
    folder, original, _ = tiny("hyvideo-demo")
    tensors = hunyuan_transformer(original.transformer)
    target = tmp_path / "transformer"
    rewritten(folder, target, "transformer", tensors, PACKED[layout])
    loaded = load_component(type(original.transformer), target, "float32")
    fused = "double_blocks.0.img_attn_qkv.weight"
    packed, scale = pack(tensors[fused])
    expected = packed.float() * scale.float()
    attention = loaded.transformer_blocks[0].attn
    found = [attention.to_q.weight, attention.to_k.weight, attention.to_v.weight]
    assert torch.equal(torch.cat(found), expected)
    step = tensors[fused].abs().max() / 8
    assert ((expected - tensors[fused]).abs() <= step).all()
    assert not torch.equal(packed.float(), expected)


def test_a_vae_in_its_authors_names_makes_the_same_video(tiny, tmp_path):
    folder, original, video = tiny("ltxv-demo")
    target = tmp_path / "vae"
    tensors = ltx_vae(original.vae, recent=True)
    rewritten(folder, target, "vae", tensors, LOSSLESS["single file"])
    loaded = load("ltxv-demo", folder, vae=target)
    assert_same(original.vae, loaded.vae)
    assert np.array_equal(video_of("ltxv-demo", loaded), video)


def test_the_shipped_vae_in_the_names_of_wan_2_2_is_the_same(tmp_path):
    from diffusers import AutoencoderKLWan

    original = load_component(AutoencoderKLWan, SHIPPED / "vae", "float32")
    target = tmp_path / "vae"
    rewritten(SHIPPED, target, "vae", wan_vae(original), LOSSLESS["single file"])
    assert_same(original, load_component(AutoencoderKLWan, target, "float32"))


def test_a_vae_in_the_names_of_wan_2_1_is_the_same(tmp_path):
    from diffusers import AutoencoderKLWan

    original = randomised(AutoencoderKLWan(base_dim=8, z_dim=4, latents_mean=[0.0] * 4))
    original.save_pretrained(tmp_path)
    target = tmp_path / "authors"
    target.mkdir()
    shutil.copy(tmp_path / "config.json", target)
    LOSSLESS["single file"](wan_vae(original), target)
    assert_same(original, load_component(AutoencoderKLWan, target, "float32"))


def test_a_text_encoder_in_its_authors_names_is_the_same(tiny, tmp_path):
    folder, original, _ = tiny("wan-demo")
    target = tmp_path / "text_encoder"
    tensors = umt5(original.text_encoder)
    rewritten(folder, target, "text_encoder", tensors, LOSSLESS["single file"])
    loaded = load_component(UMT5EncoderModel, target, "float32")
    assert_same(original.text_encoder, loaded)


def test_a_text_encoder_as_comfyui_packs_it_is_unpacked(tiny, tmp_path):
    folder, original, _ = tiny("wan-demo")
    tensors = own_names(original.text_encoder)
    del tensors["encoder.embed_tokens.weight"]
    written = {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    written["spiece_model"] = torch.zeros(5, dtype=torch.uint8)
    for name, tensor in tensors.items():
        written[name] = tensor
        if ".q.weight" in name:
            written[name], scale = to_fp8(tensor)
            written[name.replace(".weight", ".scale_weight")] = scale
    target = tmp_path / "text_encoder"
    rewritten(folder, target, "text_encoder", written, LOSSLESS["single file"])
    loaded = load_component(UMT5EncoderModel, target, "float32").state_dict()
    for name, tensor in tensors.items():
        expected = tensor
        if ".q.weight" in name:
            packed, scale = to_fp8(tensor)
            expected = packed.float() * scale
        assert torch.equal(loaded[name], expected), name


def test_a_folder_as_wans_authors_publish_it_is_loaded(tmp_path):
    """In parts, under their names, with a configuration of their own class."""
    size = {"num_layers": 2, "ffn_dim": 64, "num_attention_heads": 1, "text_dim": 32}
    original = randomised(WanTransformer3DModel(**size))
    LOSSLESS["in parts"](wan_transformer(original), tmp_path)
    config = {"_class_name": "WanModel", "dim": 128, "_diffusers_version": "0.30.0"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_component(WanTransformer3DModel, tmp_path, "float32")
    assert_same(original, loaded)
    index = next(tmp_path.glob("*.index.json"))
    assert_same(original, load_component(WanTransformer3DModel, index, "float32"))


def test_a_vace_checkpoint_needs_no_configuration(tmp_path):
    size = {"num_layers": 4, "ffn_dim": 64, "num_attention_heads": 1, "text_dim": 32}
    original = randomised(WanVACETransformer3DModel(vace_layers=[0, 2], **size))
    LOSSLESS["prefix diffusion_model."](wan_transformer(original), tmp_path)
    file = tmp_path / "model_v1.safetensors"
    assert_same(original, load_component(WanVACETransformer3DModel, file, "float32"))


def test_what_must_stay_in_float32_does_so_from_a_packed_file(tiny, tmp_path):
    folder, original, _ = tiny("wan-demo")
    tensors = wan_transformer(original.transformer)
    target = tmp_path / "transformer"
    rewritten(folder, target, "transformer", tensors, PACKED["scaled fp8"])
    loaded = load_component(WanTransformer3DModel, target, "bfloat16")
    assert loaded.scale_shift_table.dtype == torch.float32
    assert loaded.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
