"""Changes of other kinds than a plain LoRA, against their own formulas or peft."""

import copy
import json

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from engine.loading.quantised import quantise_modules
from tests.engine.lora.formats import KOHYA, written
from tests.engine.lora.networks import NETWORKS, hunyuan, ltx, make_lora, run, wan

CLOSE = 1e-5
WAN_TARGETS = ["to_q", "to_k", "ffn.net.2"]


def trained(network, config):
    """The network with random adapters of peft's, and their tensors as peft saves
    them."""
    torch.manual_seed(5)
    changed = inject_adapter_in_model(config, copy.deepcopy(network)).eval()
    for name, parameter in changed.named_parameters():
        if any(part in name for part in ("lora_", "hada_", "lokr_")):
            parameter.data = parameter.data + torch.randn_like(parameter) * 0.2
    return changed, get_peft_model_state_dict(changed, adapter_name="default")


def peft_kinds():
    shared = {"target_modules": WAN_TARGETS}
    return {
        "DoRA": LoraConfig(r=4, lora_alpha=4, use_dora=True, **shared),
        "LoHa": LoHaConfig(r=2, alpha=2, init_weights=False, **shared),
        "LoHa of a high rank": LoHaConfig(r=8, alpha=8, init_weights=False, **shared),
        "LoKr": LoKrConfig(r=2, alpha=2, init_weights=False, **shared),
        "LoKr, both sides in two": LoKrConfig(
            r=1, alpha=1, decompose_both=True, init_weights=False, **shared
        ),
        "LoKr, whole sides": LoKrConfig(r=64, alpha=64, init_weights=False, **shared),
    }


@pytest.mark.parametrize("kind", list(peft_kinds()))
@pytest.mark.parametrize("prefix", ["base_model.model.", "", "transformer."])
def test_pefts_kinds_give_what_peft_gives(put_on, kind, prefix):
    network, compute = wan()
    plain = run(network, compute)
    changed, tensors = trained(network, peft_kinds()[kind])
    named = {prefix + name: tensor for name, tensor in tensors.items()}
    with put_on(network, "wan-demo", (named, 1.0)) as given:
        result = run(network, compute)
    assert given.warnings == []
    reference = run(changed, compute)
    assert (reference - plain).abs().max() > 0.01
    assert float((result - reference).abs().max()) <= CLOSE
    assert torch.equal(run(network, compute), plain)


@pytest.mark.parametrize("kind", ["LoHa", "LoKr", "LoKr, whole sides"])
def test_lycoris_scalar_multiplies_a_change(put_on, kind):
    network, compute = wan()
    _, tensors = trained(network, peft_kinds()[kind])
    layers = {name.rpartition(".")[0] for name in tensors}
    scalars = {f"{layer}.scalar": torch.tensor(0.25) for layer in layers}
    with put_on(network, "wan-demo", (tensors, 0.25)):
        quarter = run(network, compute)
    with put_on(network, "wan-demo", ({**tensors, **scalars}, 1.0)) as given:
        result = run(network, compute)
    assert given.warnings == []
    assert float((result - run(network, compute)).abs().max()) > 0.001
    assert float((result - quarter).abs().max()) <= CLOSE


def test_a_loha_of_two_ranks_is_the_product_of_its_halves(put_on):
    network, compute = wan()
    layer = "blocks.0.attn1.to_q"
    rows, columns = network.get_submodule(layer).weight.shape
    sizes = {"w1_a": (rows, 2), "w1_b": (2, columns)}
    sizes |= {"w2_a": (rows, 3), "w2_b": (3, columns)}
    generator = torch.Generator().manual_seed(1)
    parts = {
        name: torch.randn(size, generator=generator) * 0.3
        for name, size in sizes.items()
    }
    changed = copy.deepcopy(network)
    first, second = (parts[f"w{i}_a"] @ parts[f"w{i}_b"] for i in (1, 2))
    changed.get_submodule(layer).weight.data += first * second
    named = {f"{layer}.hada_{name}": tensor for name, tensor in parts.items()}
    with put_on(network, "wan-demo", (named, 1.0)):
        result = run(network, compute)
    assert float((result - run(network, compute)).abs().max()) > 0.001
    assert float((result - run(changed, compute)).abs().max()) <= CLOSE


def test_dora_in_kohyas_names(put_on):
    network, compute = wan()
    config = LoraConfig(r=4, lora_alpha=8, use_dora=True, target_modules=["to_v"])
    changed, tensors = trained(network, config)
    named = {}
    for name, tensor in tensors.items():
        new = name.replace("attn1.to_v", "self_attn.v").replace(
            "attn2.to_v", "cross_attn.v"
        )
        layer, _, end = new.partition(".lora_")
        layer = "lora_unet_" + layer.replace(".", "_")
        ends = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}
        named[f"{layer}.{ends.get(end, 'dora_scale')}"] = (
            tensor if end in ends else tensor[:, None]
        )
        named[f"{layer}.alpha"] = torch.tensor(8.0)
    with put_on(network, "wan-demo", (named, 1.0)):
        result = run(network, compute)
    assert float((result - run(changed, compute)).abs().max()) <= CLOSE


def test_differences_of_weights_biases_norms_and_tables_are_added(put_on):
    network, compute = wan()
    plain = run(network, compute)
    torch.manual_seed(9)
    pairs = {
        "diffusion_model.blocks.0.self_attn.q.diff": "blocks.0.attn1.to_q.weight",
        "diffusion_model.blocks.0.self_attn.q.diff_b": "blocks.0.attn1.to_q.bias",
        "diffusion_model.blocks.1.norm3.diff": "blocks.1.norm2.weight",
        "diffusion_model.blocks.1.norm3.diff_b": "blocks.1.norm2.bias",
        "blocks.0.self_attn.norm_q.diff": "blocks.0.attn1.norm_q.weight",
        "diffusion_model.blocks.1.diff_m": "blocks.1.scale_shift_table",
        "diffusion_model.patch_embedding.diff": "patch_embedding.weight",
        "diffusion_model.patch_embedding.diff_b": "patch_embedding.bias",
        "diffusion_model.head.head.diff": "proj_out.weight",
        "diffusion_model.head.modulation.diff": "scale_shift_table",
    }
    changed = copy.deepcopy(network)
    tensors = {}
    for name, own in pairs.items():
        parameter = changed.get_parameter(own)
        tensors[name] = torch.randn_like(parameter) * 0.3
        parameter.data = parameter.data + 0.5 * tensors[name]
    with put_on(network, "wan-demo", (tensors, 0.5)) as given:
        result = run(network, compute)
    assert given.warnings == []
    reference = run(changed, compute)
    assert (reference - plain).abs().max() > 0.01
    assert float((result - reference).abs().max()) <= CLOSE
    assert torch.equal(run(network, compute), plain)


def test_a_convolution_gets_the_product(put_on):
    network, compute = hunyuan()
    torch.manual_seed(2)
    down, up = torch.randn(3, 16, 1, 2, 2) * 0.3, torch.randn(32, 3, 1, 1, 1) * 0.3
    tensors = {
        "diffusion_model.img_in.proj.lora_down.weight": down,
        "diffusion_model.img_in.proj.lora_up.weight": up,
        "diffusion_model.img_in.proj.alpha": torch.tensor(1.5),
    }
    changed = copy.deepcopy(network)
    product = (up.flatten(1) @ down.flatten(1)).reshape(32, 16, 1, 2, 2)
    changed.x_embedder.proj.weight.data += 0.5 * product
    with put_on(network, "hyvideo-demo", (tensors, 1.0)):
        result = run(network, compute)
    assert float((result - run(changed, compute)).abs().max()) <= CLOSE


def test_hunyuans_last_modulation_has_its_halves_in_the_other_order(put_on):
    network, compute = hunyuan()
    torch.manual_seed(2)
    down, up = torch.randn(2, 32) * 0.3, torch.randn(64, 2) * 0.3
    name = "diffusion_model.final_layer.adaLN_modulation.1"
    tensors = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    tensors[f"{name}.diff_b"] = torch.arange(64.0) / 100
    changed = copy.deepcopy(network)
    shift, scale = (up @ down).chunk(2)
    changed.norm_out.linear.weight.data += torch.cat([scale, shift])
    changed.norm_out.linear.bias.data += torch.arange(64.0).roll(32) / 100
    with put_on(network, "hyvideo-demo", (tensors, 1.0)):
        result = run(network, compute)
    assert float((result - run(changed, compute)).abs().max()) <= CLOSE


def test_fused_lokr_is_divided(put_on):
    network, compute = hunyuan()
    torch.manual_seed(2)
    first, second = torch.randn(4, 4) * 0.3, torch.randn(24, 8) * 0.3
    name = "lora_unet_double_blocks_1_img_attn_qkv"
    tensors = {f"{name}.lokr_w1": first, f"{name}.lokr_w2": second}
    changed = copy.deepcopy(network)
    attention = changed.transformer_blocks[1].attn
    for layer, rows in zip(
        (attention.to_q, attention.to_k, attention.to_v),
        torch.kron(first, second).chunk(3),
        strict=True,
    ):
        layer.weight.data += rows
    with put_on(network, "hyvideo-demo", (tensors, 1.0)):
        result = run(network, compute)
    assert float((result - run(changed, compute)).abs().max()) <= CLOSE


def test_alpha_is_read_from_diffusers_metadata(put_on):
    network, compute = ltx()
    changes = make_lora(network)
    plain = run(network, compute)
    with put_on(network, "ltxv-demo", (written(changes, "transformer."), 0.25)):
        quarter = run(network, compute)
    told = {"transformer.r": 4, "transformer.lora_alpha": 1}
    metadata = {"lora_adapter_metadata": json.dumps(told)}
    tensors = written(changes, "transformer.")
    with put_on(network, "ltxv-demo", (tensors, 1.0, metadata)):
        result = run(network, compute)
    assert not torch.equal(quarter, plain)
    assert float((result - quarter).abs().max()) <= CLOSE


def test_a_partial_file_changes_what_it_has(put_on):
    network, compute = wan()
    changes = make_lora(network)
    change = changes["blocks.1.attn2.to_k"]
    name = "lora_unet_blocks_1_cross_attn_k"
    tensors = {
        f"{name}.lora_down.weight": change.down,
        f"{name}.lora_up.weight": change.up,
    }
    changed = copy.deepcopy(network)
    changed.blocks[1].attn2.to_k.weight.data += change.up @ change.down
    with put_on(network, "wan-demo", (tensors, 1.0)) as given:
        result = run(network, compute)
    assert given.warnings == []
    assert float((result - run(changed, compute)).abs().max()) <= CLOSE


def test_layers_that_the_model_lacks_are_named(put_on):
    network, compute = wan()
    changes = make_lora(network)
    tensors = written(changes, "")
    for part in ("lora_A.weight", "lora_B.weight"):
        tensors[f"blocks.0.attn2.add_k_proj.{part}"] = torch.ones(4, 4)
        tensors[f"blocks.7.attn1.to_q.{part}"] = torch.ones(4, 4)
    with put_on(network, "wan-demo", (tensors, 1.0)) as given:
        run(network, compute)
    assert len(given.warnings) == 1
    assert "4 of" in given.warnings[0]
    assert "the model has no such layer" in given.warnings[0]


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_8_bit_weights_are_changed_and_left_as_they_were(put_on, kind):
    make, model = NETWORKS[kind]
    network, compute = make()
    changes = make_lora(network)
    names = [
        f"{name}.weight"
        for name in changes
        if network.get_submodule(name).in_features % 32 == 0
    ]
    whole = copy.deepcopy(network)
    quantise_modules(network, names)
    for module in network.modules():
        if hasattr(module, "freeze"):
            module.freeze()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    plain = run(network, compute)
    tensors = written(changes, "", KOHYA, alpha=2.0)
    with put_on(network, model, (tensors, 1.0)):
        result = run(network, compute)
    with put_on(whole, model, (tensors, 1.0)):
        reference = run(whole, compute)
    assert not torch.equal(result, plain)
    spread = float((reference - run(whole, compute)).abs().max())
    assert float((result - reference).abs().max()) < 0.2 * spread
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(run(network, compute), plain)


def test_a_peft_folders_settings_are_read(tmp_path):
    from engine.loading.header import read_header
    from engine.lora.plan import read_alphas

    file = tmp_path / "adapter_model.safetensors"
    save_file({"a.lora_A.weight": torch.ones(4, 8)}, file)
    settings = {"r": 4, "lora_alpha": 16, "alpha_pattern": {"b": 2}, "use_rslora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    header = read_header(file)
    alphas = read_alphas(file, header)
    infos = {"down": header.tensors["a.lora_A.weight"]}
    assert alphas.scale("a", "a", infos) == 16 / 2
    assert alphas.scale("x.b", "b", infos) == 2 / 2
