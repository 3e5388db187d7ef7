import json

import pytest

from engine.errors import MissingWeights, UnreadableFile
from engine.family import get_variant
from engine.loading.weights import components_in, find_weights, missing_files

COMPONENTS = {
    "_class_name": "WanPipeline",
    "boundary_ratio": None,
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "transformer_2": [None, None],
    "vae": ["diffusers", "AutoencoderKLWan"],
}
SHARDS = ["part-1.safetensors", "part-2.safetensors"]
FILES = [
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    *(f"text_encoder/{shard}" for shard in SHARDS),
    "tokenizer/spiece.model",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]


def write_layout(folder, *, without=()):
    index = {"weight_map": {f"tensor{i}": shard for i, shard in enumerate(SHARDS)}}
    contents = {
        **dict.fromkeys(FILES, "x"),
        "model_index.json": json.dumps(COMPONENTS),
        "text_encoder/model.safetensors.index.json": json.dumps(index),
    }
    for name, content in contents.items():
        if name not in without:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
    return folder


@pytest.fixture(autouse=True)
def hub_cache(tmp_path, monkeypatch):
    """An empty hub cache."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


SMALL = get_variant("wan2.1-t2v-1.3b")


def test_a_whole_folder_is_found(settings):
    folder = write_layout(settings.root / "ckpts" / SMALL.folder)
    assert missing_files(folder) == []
    assert find_weights(SMALL, settings) == components_in(folder)


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        ("model_index.json", "model_index.json"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json"),
        ("tokenizer/spiece.model", "tokenizer/tokenizer.json"),
        ("transformer/config.json", "transformer/config.json"),
        (
            "vae/diffusion_pytorch_model.safetensors",
            "vae/*.safetensors",
        ),
        ("text_encoder/part-2.safetensors", "text_encoder/part-2.safetensors"),
        (
            "text_encoder/model.safetensors.index.json",
            "text_encoder/*.safetensors",
        ),
    ],
)
def test_a_missing_file_is_named_with_the_command_that_gets_it(
    settings, without, missing
):
    folder = settings.root / "ckpts" / SMALL.folder
    write_layout(folder, without=[without])
    with pytest.raises(MissingWeights) as caught:
        find_weights(SMALL, settings)
    said = str(caught.value)
    assert f"wan2.1-t2v-1.3b isn't complete: {folder} lacks {missing}." in said
    assert said.endswith(
        "Get the 29 GB with: hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers "
        f"--local-dir {folder}"
    )


def test_an_absent_model_says_where_it_was_looked_for(settings):
    with pytest.raises(MissingWeights) as caught:
        find_weights(SMALL, settings)
    said = str(caught.value)
    assert said.startswith("the files of wan2.1-t2v-1.3b aren't in ")
    for base in settings.weights:
        assert str(base / SMALL.folder) in said
    assert "and the Hugging Face cache" in said


def test_the_hub_cache_is_searched_without_asking_the_hub(settings, hub_cache):
    repository = hub_cache / "models--Wan-AI--Wan2.1-T2V-1.3B-Diffusers"
    snapshot = write_layout(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert find_weights(SMALL, settings) == components_in(snapshot)


def test_the_users_folder_comes_before_the_hub_cache(settings, hub_cache):
    repository = hub_cache / "models--Wan-AI--Wan2.1-T2V-1.3B-Diffusers"
    write_layout(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    own = write_layout(settings.root / "ckpts" / SMALL.folder)
    assert find_weights(SMALL, settings) == components_in(own)


def test_a_broken_index_is_named(settings):
    folder = write_layout(settings.root / "ckpts" / SMALL.folder)
    (folder / "model_index.json").write_text("{")
    with pytest.raises(UnreadableFile, match=r"model_index\.json isn't JSON"):
        find_weights(SMALL, settings)


def test_a_model_that_needs_no_files_needs_no_folder(settings, use_fake_family):
    assert find_weights(get_variant("fake-model"), settings) == {}
