"""Files that claim what no network has, or describe themselves in a form of their own,
cost neither memory nor a traceback."""

import json
import struct
import time

import pytest
import torch
from diffusers import WanTransformer3DModel, WanVACETransformer3DModel
from safetensors.torch import save_file

from engine.errors import UnreadableFile
from engine.loading.checkpoint import check_component, load_component
from engine.loading.header import read_header
from engine.loading.networks import class_name
from engine.loading.stored import parts_of, read_stored
from engine.loading.weights import missing_files
from tests.authors_names import wan_transformer
from tests.layout_writers import is_linear

SIZES = {"num_layers": 2, "ffn_dim": 64, "text_dim": 32}


def transformer(**sizes):
    return WanTransformer3DModel(**SIZES, **{"num_attention_heads": 1, **sizes})


def write_header(file, described):
    text = json.dumps(described).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    return file


def empty(shape):
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}


def test_more_rows_than_any_network_has_are_refused_before_they_cost_memory(tmp_path):
    described = {"blocks.0.attn1.to_q.weight": empty([300_000_000, 0])}
    file = write_header(tmp_path / "a.safetensors", described)
    with pytest.raises(UnreadableFile, match="more rows than any network's"):
        check_component(WanTransformer3DModel, file)


def test_more_blocks_than_any_network_has_are_refused_before_they_are_made(tmp_path):
    file = tmp_path / "a.safetensors"
    more = {f"blocks.{i}.attn1.to_q.weight": torch.zeros(1) for i in range(2, 5000)}
    save_file({**transformer().state_dict(), **more}, file)
    began = time.monotonic()
    with pytest.raises(UnreadableFile, match="Use the file that belongs"):
        check_component(WanTransformer3DModel, file)
    assert time.monotonic() - began < 3


def test_a_network_is_not_held_to_be_its_larger_sister(tmp_path):
    file = tmp_path / "t2v.safetensors"
    save_file(transformer().state_dict(), file)
    with pytest.raises(UnreadableFile, match="Use the file that belongs"):
        check_component(WanVACETransformer3DModel, file)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_heads_narrower_than_any_published_are_refused_in_a_sentence(tmp_path):
    file = tmp_path / "narrow.safetensors"
    save_file(transformer(attention_head_dim=64).state_dict(), file)
    with pytest.raises(UnreadableFile, match="Use the file that belongs"):
        check_component(WanTransformer3DModel, file)


def test_scales_of_another_network_in_the_file_are_not_asked_of_this_one(tmp_path):
    prefix, network = "model.diffusion_model.", transformer()
    tensors = {
        prefix + name: w.to(torch.float8_e4m3fn) if is_linear(name, w) else w
        for name, w in wan_transformer(network).items()
    }
    mark = torch.zeros(2).to(torch.float8_e4m3fn)
    file = tmp_path / "all.safetensors"
    save_file({**tensors, "text_encoders.umt5xxl.transformer.scaled_fp8": mark}, file)
    loaded = load_component(WanTransformer3DModel, file, "float32")
    wanted = network.blocks[0].attn1.to_q.weight
    found = loaded.blocks[0].attn1.to_q.weight
    assert torch.equal(found, wanted.to(torch.float8_e4m3fn).float())
    save_file({**tensors, f"{prefix}scaled_fp8": mark}, file)
    with pytest.raises(UnreadableFile, match="in 8 bits without its scale"):
        load_component(WanTransformer3DModel, file, "float32")


def test_a_folder_with_its_authors_configuration_is_known_by_its_names(tmp_path):
    save_file(
        wan_transformer(transformer()), tmp_path / "diffusion_pytorch_model.safetensors"
    )
    (tmp_path / "config.json").write_text('{"_class_name": "WanModel", "dim": 128}')
    assert class_name(read_stored(tmp_path)) == "WanTransformer3DModel"


def test_metadata_may_be_null_but_must_be_texts(tmp_path):
    file = write_header(tmp_path / "a.safetensors", {"__metadata__": None})
    assert read_header(file).metadata == {}
    for metadata in ([1], {"a": 1}, "text"):
        write_header(file, {"__metadata__": metadata})
        with pytest.raises(UnreadableFile, match="its header can't be read"):
            read_header(file)


@pytest.mark.parametrize(
    "names",
    [[1, 2], [None], ["a" * 300], ["a\0b"], ["\ud800"], {}],
    ids=["numbers", "null", "long", "nul", "surrogate", "none"],
)
def test_an_index_of_parts_must_name_files(tmp_path, names):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(enumerate(names))}))
    with pytest.raises(UnreadableFile, match=r"index\.json"):
        parts_of(index)


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"vae": ["a"]}', "[" * 100_000])
def test_an_index_of_a_model_must_list_components(tmp_path, text):
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(UnreadableFile, match=r"model_index\.json"):
        missing_files(tmp_path)
