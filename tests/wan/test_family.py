import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import Cancelled, UnreadableFile
from engine.loading.weights import components_in
from tests.tiny_wan import write_tiny_wan
from tests.wan.conftest import load
from wan import FAMILY
from wan.variants import VARIANTS

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    return write_tiny_wan(tmp_path)


def test_each_component_is_named_before_it_is_loaded(tiny_folder):
    named = []
    FAMILY.load(VARIANTS[0], components_in(tiny_folder), "float32", named.append)
    assert named == ["text encoder", "transformer", "vae"]


def test_loading_can_be_cancelled_between_components(tiny_folder):
    def cancel(name):
        if name == "transformer":
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        FAMILY.load(VARIANTS[0], components_in(tiny_folder), "float32", cancel)


def test_bfloat16_halves_the_vae_and_spares_what_the_transformer_keeps(tiny_folder):
    pipeline = FAMILY.load(
        VARIANTS[0], components_in(tiny_folder), "bfloat16", lambda name: None
    )
    assert pipeline.vae.dtype == torch.float16  # bfloat16 shows banding
    assert pipeline.text_encoder.dtype == torch.bfloat16
    dtypes = {name: p.dtype for name, p in pipeline.transformer.named_parameters()}
    assert dtypes["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert dtypes["scale_shift_table"] == torch.float32
    assert dtypes["condition_embedder.time_embedder.linear_1.weight"] == torch.float32


def test_a_bfloat16_folder_loads_in_float32(folder):
    weights = load_file(folder / TRANSFORMER)
    halves = {name: tensor.bfloat16() for name, tensor in weights.items()}
    save_file(halves, folder / TRANSFORMER, {"format": "pt"})
    pipeline = load(folder).pipeline
    assert {p.dtype for p in pipeline.transformer.parameters()} == {torch.float32}


def test_networks_are_in_evaluation_mode(tiny_folder):
    pipeline = load(tiny_folder).pipeline
    for network in (pipeline.text_encoder, pipeline.transformer, pipeline.vae):
        assert not network.training


def test_missing_tensors_are_an_error_and_not_random_numbers(folder):
    weights = load_file(folder / TRANSFORMER)
    weights.pop("blocks.1.ffn.net.2.weight")
    save_file(weights, folder / TRANSFORMER, {"format": "pt"})
    with pytest.raises(UnreadableFile, match=r"lacks blocks\.1\.ffn\.net"):
        load(folder)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def empty(file):
    file.write_bytes(b"")


def widen(file):
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "ffn_dim": 64}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (TRANSFORMER, cut),
        (TRANSFORMER, empty),
        ("transformer/config.json", empty),
        ("transformer/config.json", widen),
        ("vae/diffusion_pytorch_model.safetensors", cut),
        ("text_encoder/model.safetensors", cut),
        ("text_encoder/config.json", empty),
        ("tokenizer/tokenizer.json", empty),
        ("scheduler/scheduler_config.json", empty),
    ],
)
def test_a_damaged_file_is_named(folder, name, damage):
    damage(folder / name)
    with pytest.raises(UnreadableFile, match=str(folder / name.split("/")[0])):
        load(folder)


def test_importing_the_family_loads_no_torch():
    import subprocess
    import sys

    program = (
        "import sys, wan; wan.FAMILY.variants(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
