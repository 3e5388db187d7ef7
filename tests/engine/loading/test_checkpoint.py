import pytest
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    LTXVideoTransformer3DModel,
    WanTransformer3DModel,
)
from diffusers.pipelines.ltx import LTXLatentUpsamplerModel
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

from engine.errors import UnreadableFile
from engine.loading.checkpoint import kept_in_float32, load_component
from tests.authors_names import (
    ltx_transformer,
    ltx_vae,
    prefixed,
)
from tests.tiny_wan import make_transformer

SIZE = {"num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 2}

VAE = {
    "latent_channels": 8,
    "block_out_channels": (8, 8, 8, 8),
    "decoder_block_out_channels": (8, 16, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "spatio_temporal_scaling": (True, True, True, True),
    "decoder_spatio_temporal_scaling": (True, True, True),
    "decoder_inject_noise": (False, False, False, False),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "upsample_residual": (True, True, True),
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
    "encoder_causal": True,
}
"""As 0.9.5 and later have it, narrower."""

OLD_VAE = {
    "latent_channels": 8,
    "block_out_channels": (8, 8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8, 8),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1, 1),
}
"""As 0.9.0 has it: down and up by convolutions."""


def randomised(network):
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


@pytest.fixture(scope="module")
def transformer():
    network = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        cross_attention_dim=32,
        caption_channels=32,
        **SIZE,
    )
    return randomised(network)


@pytest.fixture(scope="module")
def vae():
    return randomised(AutoencoderKLLTXVideo(**VAE))


@pytest.fixture(scope="module")
def text_encoder():
    config = T5Config(
        vocab_size=20,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    return randomised(T5EncoderModel(config))


def config_of(network):
    return {key: x for key, x in network.config.items() if not key.startswith("_")}


def assert_same(one, other):
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        assert tensor.dtype == second[name].dtype, name


@pytest.mark.parametrize(
    "prefix", ["", "model.diffusion_model.", "diffusion_model."], ids=repr
)
def test_a_transformer_in_its_authors_names_is_loaded(transformer, tmp_path, prefix):
    names = ltx_transformer(transformer)
    assert "patchify_proj.weight" in names
    assert "transformer_blocks.1.attn2.q_norm.weight" in names
    file = tmp_path / "ltxv.safetensors"
    save_file(prefixed(prefix, names), file)
    loaded = load_component(LTXVideoTransformer3DModel, file, "float32", SIZE)
    assert_same(transformer, loaded)
    assert config_of(loaded) == config_of(transformer)
    assert not loaded.training


def test_a_transformer_in_diffusers_names_is_loaded(transformer, tmp_path):
    file = tmp_path / "ltxv.safetensors"
    save_file(transformer.state_dict(), file)
    loaded = load_component(LTXVideoTransformer3DModel, file, "float32", SIZE)
    assert_same(transformer, loaded)


def test_the_published_number_of_heads_needs_no_configuration(tmp_path):
    real = randomised(
        LTXVideoTransformer3DModel(
            attention_head_dim=2, num_layers=1, cross_attention_dim=64
        )
    )
    file = tmp_path / "ltxv.safetensors"
    save_file(ltx_transformer(real), file)
    loaded = load_component(LTXVideoTransformer3DModel, file, "float32")
    assert config_of(loaded) == config_of(real)


@pytest.mark.parametrize("prefix", ["", "vae."], ids=repr)
@pytest.mark.parametrize("recent", [True, False], ids=["0.9.5", "0.9.0"])
def test_a_vae_in_its_authors_names_is_loaded(tmp_path, prefix, recent):
    config = VAE if recent else OLD_VAE
    original = randomised(AutoencoderKLLTXVideo(**config))
    original.latents_mean.normal_()
    names = ltx_vae(original, recent=recent)
    file = tmp_path / "vae.safetensors"
    save_file(prefixed(prefix, names), file)
    loaded = load_component(AutoencoderKLLTXVideo, file, "float32", config)
    assert_same(original, loaded)
    latents = torch.randn(1, 8, 2, 2, 2)
    timestep = torch.tensor([0.05]) if recent else None
    with torch.no_grad():
        assert torch.equal(
            original.decode(latents, timestep).sample,
            loaded.decode(latents, timestep).sample,
        )


def test_a_file_that_holds_both_gives_either(transformer, vae, tmp_path):
    file = tmp_path / "ltxv-all.safetensors"
    both = prefixed("model.diffusion_model.", ltx_transformer(transformer))
    both |= prefixed("vae.", ltx_vae(vae, recent=True))
    save_file(both, file)
    assert_same(
        transformer, load_component(LTXVideoTransformer3DModel, file, "float32", SIZE)
    )
    assert_same(vae, load_component(AutoencoderKLLTXVideo, file, "float32", VAE))


@pytest.mark.parametrize("temporal", [False, True])
def test_an_upsampler_tells_its_size_by_its_shapes(tmp_path, temporal):
    original = LTXLatentUpsamplerModel(
        in_channels=8,
        mid_channels=32,
        num_blocks_per_stage=2,
        temporal_upsample=temporal,
        spatial_upsample=not temporal,
    )
    file = tmp_path / "upscaler.safetensors"
    save_file(original.state_dict(), file)
    loaded = load_component(LTXLatentUpsamplerModel, file, "float32")
    assert_same(original, loaded)
    assert config_of(loaded) == config_of(original)


@pytest.mark.parametrize("name", ["shared.weight", "encoder.embed_tokens.weight"])
def test_a_text_encoder_is_loaded_from_a_single_file(text_encoder, tmp_path, name):
    tensors = dict(text_encoder.state_dict())
    both = {"shared.weight", "encoder.embed_tokens.weight"}
    for other in both - {name}:
        del tensors[other]
    tensors["decoder.block.0.layer.0.SelfAttention.q.weight"] = torch.ones(1)
    file = tmp_path / "t5.safetensors"
    save_file(tensors, file)
    loaded = load_component(T5EncoderModel, file, "float32")
    assert_same(text_encoder, loaded)
    assert loaded.shared.weight is loaded.encoder.embed_tokens.weight
    tokens = torch.tensor([[3, 4, 1]])
    with torch.no_grad():
        assert torch.equal(text_encoder(tokens)[0], loaded(tokens)[0])


def test_a_text_encoders_folder_is_loaded_too(text_encoder, tmp_path):
    text_encoder.save_pretrained(tmp_path)
    assert_same(text_encoder, load_component(T5EncoderModel, tmp_path, "float32"))


def test_weights_take_the_precision_asked_for(transformer, tmp_path, monkeypatch):
    file = tmp_path / "ltxv.safetensors"
    save_file(ltx_transformer(transformer), file)
    monkeypatch.setattr(LTXVideoTransformer3DModel, "_keep_in_fp32_modules", ["norm_q"])
    loaded = load_component(LTXVideoTransformer3DModel, file, "bfloat16", SIZE)
    for name, tensor in loaded.state_dict().items():
        kept = "norm_q" in name.split(".")
        assert tensor.dtype == (torch.float32 if kept else torch.bfloat16), name


def test_what_a_class_keeps_in_float32_is_its_own_rule():
    wan = kept_in_float32(WanTransformer3DModel, "bfloat16")
    assert "time_embedder" in wan
    assert kept_in_float32(T5EncoderModel, "bfloat16") == set()
    assert kept_in_float32(T5EncoderModel, "float16") == {"wo"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda tensors: tensors.pop("patchify_proj.bias"),
            "it lacks proj_in.bias. Use the file that belongs",
        ),
        (
            lambda tensors: tensors.update(extra=torch.ones(1)),
            "it has extra, which the model doesn't know",
        ),
        (
            lambda tensors: tensors.update(
                {"transformer_blocks.1.attn1.to_q.weight": torch.ones(2, 2)}
            ),
            "it has transformer_blocks.1.attn1.to_q.weight of shape (2, 2) instead of "
            "(32, 32)",
        ),
    ],
)
def test_a_file_that_does_not_fit_names_the_first_tensors(
    transformer, tmp_path, change, said
):
    tensors = ltx_transformer(transformer)
    change(tensors)
    file = tmp_path / "ltxv.safetensors"
    save_file(tensors, file)
    with pytest.raises(UnreadableFile) as caught:
        load_component(LTXVideoTransformer3DModel, file, "float32", SIZE)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "tensors", "said"),
    [
        (
            LTXVideoTransformer3DModel,
            {"blocks.0.self_attn.norm_q.weight": torch.ones(1)},
            "has no LTX transformer: it holds Wan transformer.",
        ),
        (
            AutoencoderKLLTXVideo,
            {"transformer_blocks.0.attn2.q_norm.weight": torch.ones(1)},
            "has no LTX VAE: it holds LTX transformer.",
        ),
        (
            T5EncoderModel,
            {"per_channel_statistics.mean-of-means": torch.ones(1)},
            "has no T5 text encoder: it holds LTX VAE.",
        ),
        (
            LTXLatentUpsamplerModel,
            {"whatever": torch.ones(1)},
            "has no LTX latent upsampler: it holds something unknown.",
        ),
    ],
)
def test_another_networks_file_is_refused_by_name(tmp_path, kind, tensors, said):
    file = tmp_path / "other.safetensors"
    save_file(tensors, file)
    with pytest.raises(UnreadableFile) as caught:
        load_component(kind, file, "float32")
    assert said in str(caught.value)


def test_nothing_is_changed_in_the_file(transformer, tmp_path):
    file = tmp_path / "ltxv.safetensors"
    save_file(ltx_transformer(transformer), file)
    before = load_file(file)
    loaded = load_component(LTXVideoTransformer3DModel, file, "float32", SIZE)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    for name, tensor in load_file(file).items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_folder_is_loaded_as_diffusers_loads_it(tmp_path, dtype):
    make_transformer().save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    expected = WanTransformer3DModel.from_pretrained(
        tmp_path, torch_dtype=getattr(torch, dtype)
    )
    loaded = load_component(WanTransformer3DModel, tmp_path, dtype)
    assert_same(expected, loaded)
    buffers = dict(expected.named_buffers())  # some aren't among its weights
    for name, buffer in loaded.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda folder: next(folder.glob("*-00002-*")).unlink(),
            "can't read .*-00002-of-.*: No such file",
        ),
        (
            lambda folder: next(folder.glob("*.index.json")).write_text("{}"),
            r"can't load .*index\.json: 'weight_map'",
        ),
        (
            lambda folder: next(folder.glob("*.index.json")).unlink(),
            "has 11 files and no index that says what belongs together",
        ),
    ],
    ids=["part", "index", "all"],
)
def test_a_folder_without_all_its_parts_is_refused(tmp_path, damage, said):
    make_transformer().save_pretrained(tmp_path, max_shard_size="10KB")
    damage(tmp_path)
    with pytest.raises(UnreadableFile, match=said):
        load_component(WanTransformer3DModel, tmp_path, "float32")
