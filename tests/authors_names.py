"""Networks' weights under the names that their authors publish them with: what
diffusers' converters take, made from diffusers' own networks."""

import re

import torch


def ltx_transformer(network):
    """Lightricks' names of a diffusers transformer's weights."""
    renames = [("proj_in", "patchify_proj"), ("time_embed", "adaln_single")]
    renames += [("norm_q", "q_norm"), ("norm_k", "k_norm")]
    named = {}
    for name, tensor in network.state_dict().items():
        original = name
        for new, old in renames:
            original = re.sub(rf"(^|\.){new}\.", rf"\1{old}.", original)
        named[original] = tensor.contiguous()
    return named


def ltx_vae(network, *, recent):
    """Lightricks' names of a diffusers VAE's weights."""
    numbers = {"encoder": {}, "decoder": {}}
    if recent:
        for side, last in (("encoder", 4), ("decoder", 3)):
            blocks = numbers[side]
            for i in range(last):
                down = side == "encoder"
                word = "down" if down else "up"
                blocks[f"{word}_blocks.{i}.{word}samplers.0"] = 2 * i + 1
                blocks[f"{word}_blocks.{i}"] = 2 * i if down else 2 * i + 2
        numbers["encoder"]["mid_block"] = 8
        numbers["decoder"]["mid_block"] = 0
    else:
        numbers["encoder"] = {
            "down_blocks.0.downsamplers.0": 1,
            "down_blocks.0.conv_out": 2,
            "down_blocks.0": 0,
            "down_blocks.1.downsamplers.0": 4,
            "down_blocks.1.conv_out": 5,
            "down_blocks.1": 3,
            "down_blocks.2.downsamplers.0": 7,
            "down_blocks.2": 6,
            "down_blocks.3": 8,
            "mid_block": 9,
        }
        numbers["decoder"] = {
            "mid_block": 0,
            "up_blocks.1.upsamplers.0": 2,
            "up_blocks.2.conv_in": 4,
            "up_blocks.2.upsamplers.0": 5,
            "up_blocks.3.conv_in": 7,
            "up_blocks.3.upsamplers.0": 8,
            "up_blocks.0": 1,
            "up_blocks.1": 3,
            "up_blocks.2": 6,
            "up_blocks.3": 9,
        }
    named = {}
    for name, tensor in network.state_dict().items():
        side, _, rest = name.partition(".")
        if not rest:
            statistic = {"latents_mean": "mean-of-means", "latents_std": "std-of-means"}
            named[f"per_channel_statistics.{statistic[name]}"] = tensor
            continue
        for block, number in numbers[side].items():
            if rest.startswith(f"{block}."):
                kind = "down" if side == "encoder" else "up"
                rest = f"{kind}_blocks.{number}.{rest.removeprefix(block + '.')}"
                break
        if recent:
            rest = re.sub(r"^time_embedder", "last_time_embedder", rest)
            rest = re.sub(r"^scale_shift_table", "last_scale_shift_table", rest)
        rest = rest.replace("resnets", "res_blocks").replace("norm3.", "norm3.norm.")
        rest = rest.replace("conv_shortcut.conv.", "conv_shortcut.")
        named[f"{side}.{rest}"] = tensor.contiguous()
    named["per_channel_statistics.channel"] = torch.arange(8.0)
    named["per_channel_statistics.mean-of-stds"] = torch.ones(8)
    return named


def prefixed(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _replaced(name, renames):
    for new, old in renames:
        name = re.sub(new, old, name)
    return name


WAN_TRANSFORMER = [
    (r"condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"condition_embedder\.time_proj\.", "time_projection.1."),
    (r"condition_embedder\.image_embedder\.norm1\.", "img_emb.proj.0."),
    (r"condition_embedder\.image_embedder\.ff\.net\.0\.proj\.", "img_emb.proj.1."),
    (r"condition_embedder\.image_embedder\.ff\.net\.2\.", "img_emb.proj.3."),
    (r"condition_embedder\.image_embedder\.norm2\.", "img_emb.proj.4."),
    (r"condition_embedder\.image_embedder\.pos_embed", "img_emb.emb_pos"),
    (r"^scale_shift_table", "head.modulation"),
    (r"^proj_out\.", "head.head."),
    (r"(blocks\.\d+)\.proj_in\.", r"\1.before_proj."),
    (r"(blocks\.\d+)\.proj_out\.", r"\1.after_proj."),
    (r"\.scale_shift_table", ".modulation"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".o."),
    (r"\.add_([kv])_proj\.", r".\1_img."),
    (r"\.norm_added_k\.", ".norm_k_img."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
    (r"^fps_projection\.net\.0\.proj\.", "fps_projection.0."),
    (r"^fps_projection\.net\.2\.", "fps_projection.2."),
]


def wan_transformer(network):
    """Wan's names of a diffusers transformer's weights, VACE's too."""
    swapped = {"norm2": "norm3", "norm3": "norm2"}
    named = {}
    for name, tensor in network.state_dict().items():
        original = re.sub(r"(blocks\.\d+)\.(norm[23])\.", _swap(swapped), name)
        original = _replaced(original, WAN_TRANSFORMER)
        named[original] = tensor.contiguous()
    return named


def _swap(names):
    return lambda found: f"{found[1]}.{names[found[2]]}."


WAN_VAE = {
    "quant_conv.": "conv1.",
    "post_quant_conv.": "conv2.",
    "encoder.conv_in.": "encoder.conv1.",
    "decoder.conv_in.": "decoder.conv1.",
    "encoder.norm_out.": "encoder.head.0.",
    "decoder.norm_out.": "decoder.head.0.",
    "encoder.conv_out.": "encoder.head.2.",
    "decoder.conv_out.": "decoder.head.2.",
}

WAN_VAE_BLOCKS = {
    "encoder.mid_block.resnets.0.": "encoder.middle.0.",
    "encoder.mid_block.attentions.0.": "encoder.middle.1.",
    "encoder.mid_block.resnets.1.": "encoder.middle.2.",
    "decoder.mid_block.resnets.0.": "decoder.middle.0.",
    "decoder.mid_block.attentions.0.": "decoder.middle.1.",
    "decoder.mid_block.resnets.1.": "decoder.middle.2.",
}

WAN_VAE_LAYERS = {
    "norm1.": "residual.0.",
    "conv1.": "residual.2.",
    "norm2.": "residual.3.",
    "conv2.": "residual.6.",
    "conv_shortcut.": "shortcut.",
}


def wan_vae(network):
    """Wan's names of a diffusers VAE's weights: of 2.1, whose blocks are one long list
    of layers (three and a sampler to a block, as published), or of 2.2."""
    config = network.config
    return {
        _wan_vae_name(name, config.is_residual, config.num_res_blocks): tensor
        for name, tensor in network.state_dict().items()
    }


def _wan_vae_name(name, is_residual, depth):
    for new, old in WAN_VAE.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    for new, old in WAN_VAE_BLOCKS.items():
        if name.startswith(new):
            return old + _wan_vae_layer(name.removeprefix(new))
    side, way, number, rest = re.fullmatch(
        r"(encoder|decoder)\.(up|down)_blocks\.(\d+)\.(.*)", name
    ).groups()
    resnet = re.fullmatch(r"resnets\.(\d+)\.(.*)", rest)
    rest = re.sub(r"^(up|down)samplers?\.(0\.)?", "", rest)
    rest = _wan_vae_layer(resnet[2] if resnet else rest)
    last = depth if side == "encoder" else depth + 1
    inner = int(resnet[1]) if resnet else last
    if is_residual:
        return f"{side}.{way}samples.{number}.{way}samples.{inner}.{rest}"
    if side == "encoder":  # diffusers has one list there too
        return f"encoder.downsamples.{number}.{rest}"
    return f"decoder.upsamples.{int(number) * (last + 1) + inner}.{rest}"


def _wan_vae_layer(rest):
    for new, old in WAN_VAE_LAYERS.items():
        if rest.startswith(new):
            return old + rest.removeprefix(new)
    return rest


UMT5 = [
    (r"^encoder\.block\.", "blocks."),
    (r"layer\.0\.SelfAttention\.relative_attention_bias", "pos_embedding.embedding"),
    (r"layer\.0\.SelfAttention\.", "attn."),
    (r"layer\.0\.layer_norm", "norm1"),
    (r"layer\.1\.layer_norm", "norm2"),
    (r"layer\.1\.DenseReluDense\.wi_0", "ffn.gate.0"),
    (r"layer\.1\.DenseReluDense\.wi_1", "ffn.fc1"),
    (r"layer\.1\.DenseReluDense\.wo", "ffn.fc2"),
    (r"^encoder\.final_layer_norm", "norm"),
    (r"^shared", "token_embedding"),
]


def umt5(network):
    """The names in Wan's repository of a UMT5 encoder's weights."""
    named = {}
    for name, tensor in network.state_dict().items():
        if name == "encoder.embed_tokens.weight":
            continue
        named[_replaced(name, UMT5)] = tensor.contiguous()
    return named


HUNYUAN = [
    (r"^single_transformer_blocks\.(\d+)\.attn\.to_", r"single_blocks.\1.attn.to_"),
    (r"^single_transformer_blocks\.(\d+)\.proj_mlp", r"single_blocks.\1.attn.to_m"),
    (r"^x_embedder\.", "img_in."),
    (r"time_text_embed\.timestep_embedder\.linear_1", "time_in.mlp.0"),
    (r"time_text_embed\.timestep_embedder\.linear_2", "time_in.mlp.2"),
    (r"time_text_embed\.guidance_embedder\.linear_1", "guidance_in.mlp.0"),
    (r"time_text_embed\.guidance_embedder\.linear_2", "guidance_in.mlp.2"),
    (r"time_text_embed\.text_embedder\.linear_1", "vector_in.in_layer"),
    (r"time_text_embed\.text_embedder\.linear_2", "vector_in.out_layer"),
    (r"^single_transformer_blocks\.(\d+)\.attn\.norm_", r"single_blocks.\1.norm_"),
    (r"^single_transformer_blocks\.(\d+)\.norm\.", r"single_blocks.\1.modulation."),
    (r"^single_transformer_blocks\.(\d+)\.proj_out", r"single_blocks.\1.linear2"),
    (r"^single_blocks\.(\d+)\.norm_([qk])", r"single_blocks.\1.\2_norm"),
    (r"^transformer_blocks\.", "double_blocks."),
    (r"attn\.norm_added_([qk])", r"txt_attn_\1_norm"),
    (r"attn\.norm_([qk])", r"img_attn_\1_norm"),
    (r"attn\.to_out\.0", "img_attn_proj"),
    (r"attn\.to_add_out", "txt_attn_proj"),
    (r"norm1\.linear", "img_mod.linear"),
    (r"norm1_context\.linear", "txt_mod.linear"),
    (r"\.ff\.net\.0\.proj", ".img_mlp.fc1"),
    (r"\.ff\.net\.2", ".img_mlp.fc2"),
    (r"\.ff_context\.net\.0\.proj", ".txt_mlp.fc1"),
    (r"\.ff_context\.net\.2", ".txt_mlp.fc2"),
    (r"^proj_out\.", "final_layer.linear."),
]

HUNYUAN_TEXT = [
    (r"token_refiner\.refiner_blocks", "individual_token_refiner.blocks"),
    (r"norm_out\.linear", "adaLN_modulation.1"),
    (r"time_text_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
    (r"time_text_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
    (r"time_text_embed\.text_embedder", "c_embedder"),
    (r"proj_in", "input_embedder"),
    (r"attn\.to_out\.0", "self_attn_proj"),
    (r"\.ff\.net\.0\.proj", ".mlp.fc1"),
    (r"\.ff\.net\.2", ".mlp.fc2"),
    (r"^context_embedder", "txt_in"),
]

FUSED = [
    (r"(txt_in\..*)attn\.to_", "{}self_attn_qkv.{}", "qkv"),
    (r"(double_blocks\.\d+\.)attn\.to_", "{}img_attn_qkv.{}", "qkv"),
    (r"(double_blocks\.\d+\.)attn\.add_", "{}txt_attn_qkv.{}", "qkv"),
    (r"(single_blocks\.\d+\.)attn\.to_", "{}linear1.{}", "qkvm"),
]


def hunyuan_transformer(network):
    """Tencent's names of a diffusers transformer's weights, queries, keys and values
    in one."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        renames = HUNYUAN_TEXT if name.startswith("context_embedder") else HUNYUAN
        if name.startswith("norm_out.linear."):
            scale, shift = tensor.chunk(2)
            end = name.rpartition(".")[2]
            tensors[f"final_layer.adaLN_modulation.1.{end}"] = torch.cat([shift, scale])
            continue
        tensors[_replaced(name, renames)] = tensor
    return {name: tensor.contiguous() for name, tensor in _fused(tensors).items()}


def _fused(tensors):
    parts, rest = {}, {}
    for name, tensor in tensors.items():
        for pattern, target, _ in FUSED:
            found = re.match(pattern + r"([qkvm])(?:_proj)?\.(weight|bias)$", name)
            if found:
                fused = target.format(found[1], found[3])
                parts.setdefault(fused, {})[found[2]] = tensor
                break
        else:
            rest[name] = tensor
    return rest | {
        name: torch.cat([found[part] for part in "qkvm" if part in found])
        for name, found in parts.items()
    }
