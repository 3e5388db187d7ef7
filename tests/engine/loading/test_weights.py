import json
from dataclasses import replace

import pytest

from engine.errors import MissingWeights, UnreadableFile
from engine.family import WeightFile, get_variant
from engine.loading.weights import (
    components_in,
    find_weights,
    missing_files,
    missing_weights,
)
from tests.tiny_wan import write_tiny_wan

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


def test_what_a_folder_lacks_comes_from_its_base(settings):
    whole = write_layout(settings.root / "ckpts" / "demo" / "wan")
    own = settings.root / "ckpts" / "demo" / "own"
    (own / "transformer").mkdir(parents=True)
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        (own / "transformer" / file).write_text("x")
    shared = {name: [None, None] for name in COMPONENTS if name != "_class_name"}
    index = {**shared, "transformer": COMPONENTS["transformer"]}
    (own / "model_index.json").write_text(json.dumps(index))
    row = replace(get_variant("wan-demo"), folder="demo/own", base_folder="demo/wan")
    found = find_weights(row, settings)
    assert found == {**components_in(whole), "transformer": own / "transformer"}
    absent = replace(row, base_folder="demo/absent")
    with pytest.raises(MissingWeights, match="demo/absent"):
        find_weights(absent, settings)


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


TRANSFORMER = (
    WeightFile("someone/model", "sub/model_bf16.safetensors", 26),
    WeightFile("someone/model", "model_int8.safetensors", 13, precision="int8"),
)
ENCODER = WeightFile("someone/model", "text_encoder", 10)
ROW = replace(
    SMALL, files={"transformer": TRANSFORMER, "text_encoder": (ENCODER,)}, folder="row"
)


def write(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x")
    return file


def write_encoder(folder):
    write(folder / "config.json")
    write(folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    "place",
    [
        "row/sub/model_bf16.safetensors",
        "row/model_bf16.safetensors",
        "sub/model_bf16.safetensors",
        "model_bf16.safetensors",
    ],
)
def test_a_single_file_is_found_where_it_may_lie(settings, place):
    ckpts = settings.root / "ckpts"
    encoder = write_encoder(ckpts / "row" / "text_encoder")
    file = write(ckpts / place)
    assert find_weights(ROW, settings) == {
        "transformer": file,
        "text_encoder": encoder,
    }


def test_single_files_are_found_in_the_hub_cache(settings, hub_cache):
    repository = hub_cache / "models--someone--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    snapshot = repository / "snapshots" / "abc"
    file = write(snapshot / "sub" / "model_bf16.safetensors")
    encoder = write_encoder(snapshot / "text_encoder")
    assert find_weights(ROW, settings) == {
        "transformer": file,
        "text_encoder": encoder,
    }


def test_the_chosen_precision_wins_and_a_smaller_one_will_do(settings):
    ckpts = settings.root / "ckpts"
    bf16, int8 = TRANSFORMER
    write_encoder(ckpts / "row" / "text_encoder")
    small = write(ckpts / int8.name)
    assert find_weights(ROW, settings, {"transformer": bf16})["transformer"] == small
    large = write(ckpts / bf16.name)
    assert find_weights(ROW, settings, {"transformer": bf16})["transformer"] == large
    assert find_weights(ROW, settings, {"transformer": int8})["transformer"] == small


def test_a_larger_precision_than_chosen_does_not_count(settings):
    bf16, int8 = TRANSFORMER
    write_encoder(settings.root / "ckpts" / "row" / "text_encoder")
    write(settings.root / "ckpts" / bf16.name)
    assert missing_weights(ROW, settings, {"transformer": int8}) == [int8]
    assert missing_weights(ROW, settings) == []


def test_missing_single_files_are_named_with_the_commands_that_get_them(settings):
    folder = settings.root / "ckpts" / "row" / "text_encoder"
    write(folder / "config.json")  # without weights
    with pytest.raises(MissingWeights) as caught:
        find_weights(ROW, settings)
    said = str(caught.value)
    assert "lacks model_bf16.safetensors (26.0 GB), text_encoder (10.0 GB)." in said
    assert str(settings.root / "ckpts") in said
    assert said.endswith(
        "hf download someone/model sub/model_bf16.safetensors && "
        'hf download someone/model --include "text_encoder/*"'
    )


def test_a_missing_repository_of_one_network_is_named_with_its_command(settings):
    row = replace(ROW, files={"transformer": (WeightFile("someone/net", "", 25.8),)})
    with pytest.raises(MissingWeights) as caught:
        find_weights(row, settings)
    assert "lacks net (25.8 GB)." in str(caught.value)
    assert str(caught.value).endswith("Get them with: hf download someone/net")


def test_such_a_repository_may_lie_under_its_name_or_that_of_its_part(settings):
    row = replace(ROW, files={"transformer": (WeightFile("someone/net", "", 25.8),)})
    for name in ("transformer", "net"):
        place = write_encoder(settings.root / "ckpts" / row.folder / name)
        assert find_weights(row, settings) == {"transformer": place}


def test_a_file_that_holds_two_components_is_missing_once(settings):
    both = replace(SMALL, files={"transformer": TRANSFORMER, "vae": TRANSFORMER[:1]})
    assert missing_weights(both, settings) == [TRANSFORMER[0]]
    file = write(settings.root / "ckpts" / TRANSFORMER[0].name)
    assert find_weights(both, settings) == {"transformer": file, "vae": file}


def test_a_missing_repository_is_to_be_downloaded_as_a_whole(settings):
    assert missing_weights(SMALL, settings) == [WeightFile(SMALL.hub, "", 29)]
    write_layout(settings.root / "ckpts" / SMALL.folder)
    assert missing_weights(SMALL, settings) == []
    assert missing_weights(replace(SMALL, hub=None, folder="x"), settings) == []


def test_a_model_on_anothers_base_lacks_only_what_its_file_does_not_stand_for(
    settings,
):
    row = replace(
        SMALL,
        folder="mine",
        base_folder=SMALL.folder,
        files={"transformer": (WeightFile("", "mine.safetensors", 9.0),)},
    )
    mine = write(settings.root / "ckpts" / "mine.safetensors")
    rest = WeightFile(SMALL.hub, "", 20.0, without=frozenset({"transformer"}))
    assert missing_weights(row, settings) == [rest]
    with pytest.raises(MissingWeights, match=r"--exclude .transformer/"):
        find_weights(row, settings)

    base = settings.root / "ckpts" / SMALL.folder
    write_layout(base)
    (base / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    assert missing_weights(row, settings) == []
    found = find_weights(row, settings)
    assert found["transformer"] == mine
    assert found["transformer/base"] == base / "transformer"  # its configuration
    assert found["vae"] == base / "vae"
    # The base itself isn't whole.
    assert missing_weights(SMALL, settings) == [WeightFile(SMALL.hub, "", 29)]


@pytest.mark.parametrize("name", ["wan2.1_t2v_fp8_scaled.safetensors", "Q8_0.gguf"])
def test_a_file_of_ones_own_may_stand_for_a_components(tmp_path, name):
    folder = tmp_path / "model"
    write_tiny_wan(folder)
    original = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    original.rename(original.with_name(name))
    assert missing_files(folder) == []
    original.with_name("second.safetensors").write_bytes(b"")
    assert missing_files(folder) == ["transformer/*.safetensors"]
