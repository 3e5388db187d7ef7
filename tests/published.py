"""The networks of the catalogue's models as they are published: class, configuration,
names of the weights, and how many bytes a weight takes. From diffusers' conversion
scripts and the repositories' own ``config.json``."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoFramepackTransformer3DModel,
    HunyuanVideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    SkyReelsV2Transformer3DModel,
    WanTransformer3DModel,
    WanVACETransformer3DModel,
)
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from transformers import (
    CLIPTextModel,
    CLIPVisionModel,
    LlamaModel,
    LlavaForConditionalGeneration,
    Qwen2_5_VLTextModel,
    SiglipVisionModel,
    T5EncoderModel,
    UMT5EncoderModel,
)

from engine.loading.layouts.wan import MEAN_OF_2_2, STD_OF_2_2
from tests.authors_names import (
    hunyuan_transformer,
    ltx_transformer,
    ltx_vae,
    prefixed,
    umt5,
    wan_transformer,
    wan_vae,
)

Tensors = Mapping[str, torch.Tensor]


def plain(network: Any) -> Tensors:
    """The network's own names; of weights that are one, only the first."""
    tensors = dict(network.state_dict())
    tensors.pop("encoder.embed_tokens.weight", None)
    return tensors


def below(prefix: str) -> Callable[[Any], Tensors]:
    """Names as transformers wrote them when the model was published."""
    return lambda network: prefixed(prefix, plain(network))


def llava(network: Any) -> Tensors:
    """The same."""
    renames = {
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.language_model.": "language_model.model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
        "lm_head.": "language_model.lm_head.",
    }
    pattern = re.compile("|".join(re.escape(name) for name in renames))
    return {
        pattern.sub(lambda found: renames[found[0]], name, count=1): tensor
        for name, tensor in plain(network).items()
    }


def in_ltx_file(network: Any) -> Tensors:
    """As Lightricks' files have it, which hold the transformer and the VAE."""
    if isinstance(network, AutoencoderKLLTXVideo):
        return prefixed("vae.", ltx_vae(network, recent=True))
    return prefixed("model.diffusion_model.", ltx_transformer(network))


@dataclass(frozen=True)
class Network:
    kind: Any
    config: Mapping[str, Any] = field(default_factory=dict)
    """Where it isn't the class's default."""
    names: Callable[[Any], Tensors] = plain
    """In the folder that has its ``config.json``."""
    authors: Callable[[Any], Tensors] | None = None
    """In its authors' file, which has no ``config.json``; ``None`` where the app
    doesn't load such files."""
    untold: tuple[str, ...] = ()
    """What shapes don't tell of the configuration: the model's row must."""


WAN = {"cross_attn_norm": True, "text_dim": 4096, "freq_dim": 256, "eps": 1e-6}
SMALL = {**WAN, "num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
MIDDLE = {**WAN, "num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30}
LARGE = {**WAN, "num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}
FROM_IMAGE = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
SMALL_FROM_IMAGE = {**FROM_IMAGE, "added_kv_proj_dim": 1536}
VACE = {"vace_in_channels": 96}
XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
GATED = {"feed_forward_proj": "gated-gelu"}
LTX = {"num_attention_heads": 32, "caption_channels": 4096}
LLAMA = {
    **{"vocab_size": 128320, "hidden_size": 4096, "intermediate_size": 14336},
    **{"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8},
}
CLIP_336 = {
    **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24},
    **{"num_attention_heads": 16, "image_size": 336, "patch_size": 14},
}
WAN_22_VAE = {
    **{"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True},
    **{"in_channels": 12, "out_channels": 12, "patch_size": 2},
    **{"scale_factor_temporal": 4, "scale_factor_spatial": 16},
    **{"latents_mean": MEAN_OF_2_2, "latents_std": STD_OF_2_2},
}
LTX_VAE = {
    "block_out_channels": (128, 256, 512, 1024, 2048),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "decoder_block_out_channels": (256, 512, 1024),
    "layers_per_block": (4, 6, 6, 2, 2),
    "decoder_layers_per_block": (5, 5, 5, 5),
    "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
    "encoder_causal": True,
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
HUNYUAN = {"num_layers": 20, "num_single_layers": 40, "text_embed_dim": 4096}


def wan(**config: Any) -> Network:
    return Network(WanTransformer3DModel, config, authors=wan_transformer)


def vace(**config: Any) -> Network:
    return Network(WanVACETransformer3DModel, config, authors=wan_transformer)


def skyreels(**config: Any) -> Network:
    return Network(SkyReelsV2Transformer3DModel, config, authors=wan_transformer)


def ltx(**config: Any) -> Network:
    return Network(LTXVideoTransformer3DModel, config, authors=in_ltx_file)


def hunyuan(*untold: str, **config: Any) -> Network:
    whole = {**HUNYUAN, **config}
    kind, names = HunyuanVideoTransformer3DModel, hunyuan_transformer
    return Network(kind, whole, authors=names, untold=untold)


def hunyuan15(**config: Any) -> Network:
    sizes = {"num_layers": 54, "in_channels": 65, "out_channels": 32}
    return Network(HunyuanVideo15Transformer3DModel, {**sizes, **config})


NETWORKS = {
    "wan 1.3B": wan(**SMALL),
    "wan 14B": wan(**LARGE),
    "wan 1.3B i2v": wan(**SMALL, **SMALL_FROM_IMAGE),
    "wan 14B i2v": wan(**LARGE, **FROM_IMAGE),
    "wan 14B flf2v": wan(**LARGE, **FROM_IMAGE, pos_embed_seq_len=514),
    "wan A14B i2v": wan(**LARGE, in_channels=36),
    "wan 5B": wan(**MIDDLE, in_channels=48, out_channels=48),
    "vace 1.3B": vace(**SMALL, **VACE, vace_layers=list(range(0, 30, 2))),
    "vace 14B": vace(**LARGE, **VACE, vace_layers=list(range(0, 40, 5))),
    "skyreels 1.3B": skyreels(**SMALL, inject_sample_info=True),
    "skyreels 14B": skyreels(**LARGE, inject_sample_info=False),
    "skyreels 1.3B i2v": skyreels(
        **SMALL, **SMALL_FROM_IMAGE, inject_sample_info=False
    ),
    "skyreels 14B i2v": skyreels(**LARGE, **FROM_IMAGE, inject_sample_info=False),
    "wan vae": Network(AutoencoderKLWan, authors=wan_vae),
    "wan 2.2 vae": Network(AutoencoderKLWan, WAN_22_VAE, authors=wan_vae),
    "umt5": Network(
        UMT5EncoderModel, {**XXL, **GATED, "vocab_size": 256384}, authors=umt5
    ),
    "clip vision": Network(
        CLIPVisionModel,
        {
            **{"hidden_size": 1280, "intermediate_size": 5120, "patch_size": 14},
            **{"num_hidden_layers": 32, "num_attention_heads": 16},
        },
        below("vision_model."),
    ),
    "ltx 2B": ltx(
        **LTX, num_layers=28, attention_head_dim=64, cross_attention_dim=2048
    ),
    "ltx 13B": ltx(
        **LTX, num_layers=48, attention_head_dim=128, cross_attention_dim=4096
    ),
    "ltx vae": Network(AutoencoderKLLTXVideo, LTX_VAE, authors=in_ltx_file),
    "ltx upsampler": Network(
        LTXLatentUpsamplerModel,
        {
            **{"in_channels": 128, "mid_channels": 512, "num_blocks_per_stage": 4},
            **{"dims": 3, "spatial_upsample": True, "temporal_upsample": False},
        },
        authors=plain,
    ),
    "t5": Network(T5EncoderModel, {**XXL, **GATED, "vocab_size": 32128}, authors=plain),
    "hunyuan": hunyuan(guidance_embeds=True),
    "hunyuan i2v": hunyuan(
        "image_condition_type",
        guidance_embeds=True,
        image_condition_type="token_replace",
    ),
    "hunyuan i2v 33ch": hunyuan(
        guidance_embeds=False, in_channels=33, image_condition_type="latent_concat"
    ),
    "hunyuan vae": Network(AutoencoderKLHunyuanVideo, authors=plain),
    "framepack": Network(
        HunyuanVideoFramepackTransformer3DModel,
        {
            **HUNYUAN,
            **{"has_image_proj": True, "image_proj_dim": 1152},
            **{"has_clean_x_embedder": True},
        },
        authors=plain,
    ),
    "llama": Network(LlamaModel, LLAMA),
    "llava": Network(
        LlavaForConditionalGeneration,
        {
            "text_config": {"model_type": "llama", **LLAMA},
            "vision_config": {"model_type": "clip_vision_model", **CLIP_336},
        },
        llava,
    ),
    "clip text": Network(
        CLIPTextModel,
        {
            **{"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072},
            **{"num_hidden_layers": 12, "num_attention_heads": 12},
        },
        below("text_model."),
    ),
    # Those for other sizes and tasks have the same weights.
    "hunyuan 1.5": hunyuan15(task_type="i2v", target_size=640),
    "hunyuan 1.5 few steps": hunyuan15(
        task_type="i2v", target_size=640, use_meanflow=True
    ),
    "hunyuan 1.5 vae": Network(AutoencoderKLHunyuanVideo15),
    "qwen": Network(
        Qwen2_5_VLTextModel,
        {
            **{"vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944},
            **{"num_hidden_layers": 28, "num_attention_heads": 28},
            **{"num_key_value_heads": 4},
        },
    ),
    "byt5": Network(
        T5EncoderModel,
        {
            **{"vocab_size": 1510, "d_model": 1472, "d_kv": 64, "d_ff": 3584},
            **{"num_layers": 12, "num_heads": 6, **GATED},
        },
        authors=plain,
    ),
    "siglip": Network(
        SiglipVisionModel,
        {
            **{"hidden_size": 1152, "intermediate_size": 4304, "image_size": 384},
            **{"num_hidden_layers": 27, "num_attention_heads": 16, "patch_size": 14},
        },
        below("vision_model."),
    ),
}


AUTHORS_NAMES = {
    "wan 1.3B": "f497a13f822fae02",
    "wan 14B": "91bb4bff513bbc8f",
    "wan 1.3B i2v": "a86d5ffb15ac578b",
    "wan 14B i2v": "d15ba8530ae3e6f3",
    "wan 14B flf2v": "7ef5b05dfc160bcb",
    "wan A14B i2v": "7d4f9df06aea9011",
    "wan 5B": "7b3b1e5d4e511617",
    "vace 1.3B": "b98e55b18251ec2d",
    "vace 14B": "9b44d164faca2b64",
    "skyreels 1.3B": "d15f78a29ea39a02",
    "wan vae": "3d5b088112ea6071",
    "wan 2.2 vae": "df1561c09771a39f",
    "umt5": "6be56588df891113",
    "ltx 2B": "08726469b22092eb",
    "ltx 13B": "bf721d45e20e4c59",
    "ltx vae": "1bc2e0dbf6fd4bb9",
    "ltx upsampler": "75279f8ebb22cacd",
    "hunyuan": "9bab08fe2b8bd86e",
    "hunyuan i2v": "9bab08fe2b8bd86e",
    "hunyuan i2v 33ch": "308e1ddd98b46a8e",
}
"""Network → the beginning of a digest of its names and shapes in the class of its
authors, or of ComfyUI for their files. That class was built once; it isn't here."""


@dataclass(frozen=True)
class Part:
    """A network in a model's files."""

    network: str
    width: int
    """Bytes of a weight."""
    half: str = "-"
    """How the names of weights begin that take two bytes."""


Model = Mapping[str, Part]

UMT5, HALF_UMT5 = Part("umt5", 4), Part("umt5", 2)
WAN_VAE = Part("wan vae", 4)


def wan_model(transformer: str, text: Part = UMT5, vae: Part = WAN_VAE) -> Model:
    """Its transformer in full precision; of VACE's, only what is the base's."""
    denoiser = Part(transformer, 4, "vace_")
    return {"text_encoder": text, "transformer": denoiser, "vae": vae}


def wan_pair(transformer: str) -> Model:
    parts = wan_model(transformer, HALF_UMT5)
    return {**parts, "transformer_2": parts["transformer"]}


def wan_from_image(transformer: str) -> Model:
    return {**wan_model(transformer), "image_encoder": Part("clip vision", 4)}


LTX_SMALL = {
    "text_encoder": Part("t5", 2),
    "transformer": Part("ltx 2B", 2),
    "vae": Part("ltx vae", 2),
}
LTX_LARGE = {
    **LTX_SMALL,
    "transformer": Part("ltx 13B", 2),
    "latent_upsampler": Part("ltx upsampler", 4),
}


def hunyuan_model(transformer: str, text: str = "llama") -> Model:
    return {
        "text_encoder": Part(text, 2),
        "text_encoder_2": Part("clip text", 2),
        "transformer": Part(transformer, 2),
        "vae": Part("hunyuan vae", 4),
    }


HUNYUAN_15 = {
    "text_encoder": Part("qwen", 2),
    "text_encoder_2": Part("byt5", 4),
    "transformer": Part("hunyuan 1.5", 4),
    "vae": Part("hunyuan 1.5 vae", 4),
}
HUNYUAN_15_I2V = {**HUNYUAN_15, "image_encoder": Part("siglip", 2)}
HUNYUAN_15_FEW_STEPS = {
    **HUNYUAN_15_I2V,
    "transformer": Part("hunyuan 1.5 few steps", 4),
}

FRAMEPACK = {**hunyuan_model("framepack"), "image_encoder": Part("siglip", 2)}

MODELS: Mapping[str, Model] = {
    "wan2.1-t2v-1.3b": wan_model("wan 1.3B"),
    "wan2.1-t2v-14b": wan_model("wan 14B"),
    "wan2.1-i2v-14b-480p": wan_from_image("wan 14B i2v"),
    "wan2.1-i2v-14b-720p": wan_from_image("wan 14B i2v"),
    "wan2.1-flf2v-14b-720p": wan_from_image("wan 14B flf2v"),
    "wan2.1-fun-inp-1.3b": {
        **wan_from_image("wan 1.3B i2v"),
        "transformer": Part("wan 1.3B i2v", 2),
    },
    "wan2.2-t2v-a14b": wan_pair("wan 14B"),
    "wan2.2-i2v-a14b": wan_pair("wan A14B i2v"),
    "wan2.2-ti2v-5b": wan_model("wan 5B", HALF_UMT5, Part("wan 2.2 vae", 4)),
    "wan2.1-vace-1.3b": wan_model("vace 1.3B", HALF_UMT5),
    "wan2.1-vace-14b": wan_model("vace 14B", HALF_UMT5),
    "skyreels-v2-df-1.3b-540p": wan_model("skyreels 1.3B"),
    "skyreels-v2-df-14b-540p": wan_model("skyreels 14B"),
    "skyreels-v2-df-14b-720p": wan_model("skyreels 14B"),
    "skyreels-v2-t2v-14b-540p": wan_model("skyreels 14B"),
    "skyreels-v2-t2v-14b-720p": wan_model("skyreels 14B"),
    "skyreels-v2-i2v-1.3b-540p": wan_from_image("skyreels 1.3B i2v"),
    "skyreels-v2-i2v-14b-540p": wan_from_image("skyreels 14B i2v"),
    "skyreels-v2-i2v-14b-720p": wan_from_image("skyreels 14B i2v"),
    "ltxv-2b-0.9.6": LTX_SMALL,
    "ltxv-2b-0.9.6-distilled": LTX_SMALL,
    "ltxv-13b-0.9.7": LTX_LARGE,
    "ltxv-13b-0.9.7-distilled": LTX_LARGE,
    "ltxv-13b-0.9.8": LTX_LARGE,
    "ltxv-13b-0.9.8-distilled": LTX_LARGE,
    "hunyuan-video-t2v": hunyuan_model("hunyuan"),
    "hunyuan-video-i2v": hunyuan_model("hunyuan i2v", "llava"),
    "hunyuan-video-i2v-33ch": hunyuan_model("hunyuan i2v 33ch", "llava"),
    "hunyuan-video-1.5-t2v-480p": HUNYUAN_15,
    "hunyuan-video-1.5-i2v-480p": HUNYUAN_15_I2V,
    "hunyuan-video-1.5-t2v-720p": HUNYUAN_15,
    "hunyuan-video-1.5-i2v-720p": HUNYUAN_15_I2V,
    "hunyuan-video-1.5-t2v-480p-distilled": HUNYUAN_15,
    "hunyuan-video-1.5-i2v-480p-distilled": HUNYUAN_15_I2V,
    "hunyuan-video-1.5-i2v-720p-distilled": HUNYUAN_15_I2V,
    "hunyuan-video-1.5-i2v-480p-step-distilled": HUNYUAN_15_FEW_STEPS,
    "framepack-i2v": FRAMEPACK,
    "framepack-f1-i2v": FRAMEPACK,
}
