import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.attention.use import masks_attention
from engine.errors import Cancelled, UnreadableFile
from engine.family import FAMILIES, get_variant
from engine.loading.kernels import compile_blocks
from engine.loading.weights import components_in, missing_files
from hyvideo import FAMILY
from hyvideo.family import architecture_of
from tests.tiny_hyvideo import write_tiny_hyvideo, write_tiny_i2v

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


def load(folder, dtype="float32", on_component=lambda name: None):
    variant = get_variant("hyvideo-demo")
    return FAMILY.load(variant, components_in(folder), dtype, on_component)


def test_the_family_is_registered():
    assert FAMILIES["hyvideo"] == "hyvideo:FAMILY"


@pytest.mark.parametrize("variant", FAMILY.variants(), ids=lambda variant: variant.id)
def test_every_rows_architecture_answers_as_the_family_does(variant):
    module = architecture_of(variant)
    for name in ("load", "encode", "denoise", "decode"):
        assert callable(getattr(module, name))


@pytest.mark.parametrize("row", ["hyvideo-demo", "hunyuan-video-i2v"])
def test_folders_as_diffusers_writes_them_are_complete(tiny_folder_of, row):
    assert missing_files(tiny_folder_of(row)) == []


def test_each_component_is_named_before_it_is_loaded(tiny_folder_of):
    named = []
    load(tiny_folder_of("hyvideo-demo"), on_component=named.append)
    assert named == ["text encoder", "text encoder 2", "transformer", "vae"]


def test_loading_can_be_cancelled_between_components(tiny_folder_of):
    def cancel(name):
        if name == "transformer":
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        load(tiny_folder_of("hyvideo-demo"), on_component=cancel)


def test_bfloat16_spares_the_vae(tiny_folder_of):
    pipeline = load(tiny_folder_of("hyvideo-demo"), "bfloat16")
    assert pipeline.vae.dtype == torch.float16
    for network in (pipeline.transformer, pipeline.text_encoder):
        assert network.dtype == torch.bfloat16


def test_attention_needs_no_mask_so_that_fast_kernels_can_be_chosen(tiny_folder_of):
    assert not masks_attention(load(tiny_folder_of("hyvideo-demo")).transformer)


@pytest.mark.parametrize("row", ["hyvideo-demo", "hunyuan-video-t2v"])
def test_every_block_is_compiled(tiny_folder_of, row, monkeypatch, tmp_path):
    variant = get_variant(row)
    weights = components_in(tiny_folder_of(row))
    pipeline = FAMILY.load(variant, weights, "float32", lambda name: None)
    compiled = []

    def note(module):
        compiled.append(module)

    monkeypatch.setattr(torch.nn.Module, "compile", note)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compile_blocks(pipeline, tmp_path)
    transformer = pipeline.transformer
    assert compiled == [
        *transformer.transformer_blocks,
        *transformer.single_transformer_blocks,
    ]


def test_older_names_of_the_language_models_tensors_are_known(tmp_path, tiny_folder_of):
    """As transformers wrote them when the real files were made."""
    row = "hunyuan-video-i2v"
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder_of(row), folder)
    for component, old, new in (
        ("text_encoder", "vision_tower.vision_model.", "vision_tower."),
        ("text_encoder_2", "text_model.", ""),
    ):
        file = folder / component / "model.safetensors"
        tensors = load_file(file)
        renamed = {
            old + name.removeprefix(new) if name.startswith(new) else name: tensor
            for name, tensor in tensors.items()
        }
        assert renamed.keys() != tensors.keys()
        save_file(renamed, file, {"format": "pt"})
    variant = get_variant(row)
    loaded, plain = (
        FAMILY.load(variant, components_in(place), "float32", lambda name: None)
        for place in (folder, tiny_folder_of(row))
    )
    for component in ("text_encoder", "text_encoder_2"):
        ours, theirs = (
            getattr(pipeline, component).state_dict() for pipeline in (loaded, plain)
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_padding_that_the_language_models_config_leaves_out_is_the_tokenizers(
    tmp_path,
):
    """transformers 5 has no padding of its own, and diffusers asks for it."""
    folder = write_tiny_i2v(tmp_path / "model", "token_replace")
    file = folder / "text_encoder" / "config.json"
    config = json.loads(file.read_text())
    assert config.pop("pad_token_id") == 0
    file.write_text(json.dumps(config))
    pipeline = FAMILY.load(
        get_variant("hunyuan-video-i2v"),
        components_in(folder),
        "float32",
        lambda name: None,
    )
    assert pipeline.text_encoder.config.pad_token_id == 0


@pytest.mark.parametrize(
    "name",
    [
        TRANSFORMER,
        "transformer/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder_2/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer_2/tokenizer.json",
        "image_processor/preprocessor_config.json",
    ],
)
def test_a_damaged_file_is_named(tmp_path, name):
    folder = write_tiny_i2v(tmp_path / "model", "token_replace")
    (folder / name).write_bytes(b"")
    with pytest.raises(UnreadableFile, match=str(folder / name.split("/")[0])):
        load(folder)


def test_missing_tensors_are_an_error_and_not_random_numbers(tmp_path):
    folder = write_tiny_hyvideo(tmp_path)
    weights = load_file(folder / TRANSFORMER)
    weights.pop("proj_out.weight")
    save_file(weights, folder / TRANSFORMER, {"format": "pt"})
    with pytest.raises(UnreadableFile, match=r"lacks proj_out\.weight"):
        load(folder)


def test_importing_the_family_loads_no_torch():
    program = (
        "import sys, hyvideo; hyvideo.FAMILY.variants(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
