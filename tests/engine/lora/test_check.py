"""What is wrong with LoRAs is said before a job waits."""

import json

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import RequestError
from engine.lora.files import find_lora, list_loras
from engine.settings import Settings
from engine.validate import accept
from tests.engine.lora.formats import KOHYA, written
from tests.engine.lora.networks import hunyuan, in_authors_names, make_lora, wan


@pytest.fixture
def put(settings):
    """Writes a LoRA below the folder of a family and gives its name."""

    def put(name="style.safetensors", tensors=None, family="wan", metadata=None):
        file = settings.root / "loras" / family / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if tensors is None:
            tensors = written(make_lora(wan()[0]), "diffusion_model.")
        kept = {key: tensor.contiguous() for key, tensor in tensors.items()}
        save_file(kept, file, metadata)
        return name

    return put


@pytest.fixture
def refusal(settings):
    """What is said of a request with these LoRAs; empty when it is accepted."""

    def refusal(*loras, model="wan-demo", settings=settings):
        listed = [
            {"name": lora} if isinstance(lora, str) else dict(lora) for lora in loras
        ]
        data = {"model": model, "prompt": "x", "loras": listed}
        try:
            accept(data, folder=None, settings=settings)
        except RequestError as error:
            assert {problem.field for problem in error.problems} == {"loras"}
            return str(error)
        return ""

    return refusal


def test_forty_are_accepted_and_a_hundred_and_one_are_not(put, refusal):
    names = [put(f"style{number}.safetensors") for number in range(101)]
    assert refusal(*names[:40]) == ""
    assert "at most 100" in refusal(*names)


@pytest.mark.parametrize(
    ("multiplier", "said"),
    [
        ("1e9", "LoRA 1 (style.safetensors): its multiplier has 1e9; it must be betw"),
        (1e9, "it must be between -10 and 10"),
        (";;", "its multiplier has nothing in phase 1 of 3"),
        ("1;2;3", ""),
    ],
)
def test_multipliers_are_checked(put, refusal, multiplier, said):
    found = refusal({"name": put(), "multiplier": multiplier})
    assert said in found
    assert bool(said) == bool(found)


def test_phases_that_a_pair_of_transformers_has_not_are_refused(
    put, refusal, accept_every_licence
):
    lora = {"name": put(), "multiplier": "1;2;3"}
    assert "3 phases (divided by ;), but the model has 2" in refusal(
        lora, model="wan2.2-t2v-a14b"
    )


def test_a_file_for_a_second_transformer_alone_needs_a_model_with_two(
    put, refusal, accept_every_licence
):
    name = put(tensors=written(make_lora(wan()[0]), "transformer_2."))
    said = refusal(name)
    assert "it is for a second transformer, which the model doesn't have" in said
    assert refusal(name, model="wan2.2-t2v-a14b") == ""


def test_another_familys_file_is_refused_with_its_name(put, refusal):
    changes = in_authors_names("hyvideo", make_lora(hunyuan()[0]))
    name = put(tensors=written(changes, "diffusion_model."))
    said = refusal(name)
    assert "style.safetensors doesn't fit Wan: only 0 of its" in said
    assert "it was made for Hunyuan Video" in said


def test_a_file_for_a_model_of_another_size_is_refused(put, refusal):
    name = "diffusion_model.blocks.0.self_attn.q.lora_{}.weight"
    small = {name.format("A"): torch.zeros(4, 384), name.format("B"): torch.zeros(8, 4)}
    large = {
        name.format("A"): torch.zeros(4, 5120),
        name.format("B"): torch.zeros(8, 4),
    }
    assert refusal(put(tensors=small)) == ""
    said = refusal(put(tensors=large))
    assert "it was made for the family's 14B model, which has layers of another" in said
    # This model's files aren't here, so that its size isn't known.
    assert refusal(put(tensors=large), model="wan2.1-t2v-1.3b") == ""


def test_a_file_that_names_another_model_is_refused(put, refusal):
    name = put(metadata={"modelspec.architecture": "flux-1-dev/lora"})
    assert "says that it was made for Flux" in refusal(name)


def test_a_truncated_file_is_refused(put, refusal, settings):
    name = put()
    file = settings.root / "loras" / "wan" / name
    file.write_bytes(file.read_bytes()[:-1000])
    assert "style.safetensors" in refusal(name)
    file.write_bytes(file.read_bytes()[:100])
    assert "style.safetensors" in refusal(name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<html>not found", "a web page"),
        (b"PK\x03\x04 archive", "pickled"),
        (b"version https://git-lfs.github.com/spec/v1", "style.safetensors"),
    ],
)
def test_a_file_that_is_something_else_says_what(put, refusal, settings, content, said):
    name = put()
    (settings.root / "loras" / "wan" / name).write_bytes(content)
    assert said in refusal(name)


def test_ranks_that_differ_are_refused(put, refusal):
    tensors = written(make_lora(wan()[0]), "lora_unet_", KOHYA)
    tensors = {
        name.replace(".", "_", name.count(".") - 2): tensor[:2]
        if "lora_down" in name
        else tensor
        for name, tensor in tensors.items()
    }
    assert "its ranks differ: down has 2, up has 4" in refusal(put(tensors=tensors))


def test_half_of_a_pair_is_said(put, refusal):
    tensors = {
        name: tensor
        for name, tensor in written(make_lora(wan()[0]), "").items()
        if "lora_A" in name
    }
    said = refusal(put(tensors=tensors))
    assert "its LoRA is incomplete: up is missing" in said


def test_a_whole_checkpoint_is_no_lora(put, refusal):
    tensors = {"blocks.0.attn1.to_q.weight": torch.ones(4, 4)}
    assert "it is a whole weight, not a change of one" in refusal(put(tensors=tensors))


def test_a_missing_file_is_named_with_the_closest(put, refusal):
    put("styles/night_city.safetensors")
    said = refusal("styles/nightcity.safetensors")
    assert "did you mean 'styles/night_city.safetensors'?" in said
    assert "did you mean 'styles/night_city.safetensors'?" in refusal(
        "night_city_v2.safetensors"
    )
    assert "put it into" in refusal("something_else.safetensors")


@pytest.mark.parametrize(
    "name",
    ["../wan/style.safetensors", "/etc/passwd", "a\\style.safetensors", "x" * 900],
)
def test_names_never_lead_out_of_the_folders(put, refusal, name):
    put()
    assert "LoRA 1" in refusal(name)


def test_pickled_files_are_never_read(put, refusal, settings):
    put()
    (settings.root / "loras" / "wan" / "style.pt").write_bytes(b"\x80\x02.")
    assert "no LoRA of this family is called 'style.pt'" in refusal("style.pt")


def test_a_disabled_one_is_not_looked_for(put, refusal):
    off = {"name": "gone.safetensors", "multiplier": ";;", "enabled": False}
    assert refusal(put(), off) == ""
    assert refusal({**off, "enabled": True}) != ""


def test_the_same_file_twice_is_refused(put, refusal):
    name = put()
    assert "LoRA 2 (style.safetensors): is there twice" in refusal(name, name)


SHIPPED = ["gem.safetensors", "night.safetensors"]
"""Come with the app."""


def test_a_folder_of_ones_own_is_searched_too(put, refusal, settings, tmp_path):
    more = tmp_path / "more"
    (more / "deep").mkdir(parents=True)
    tensors = written(make_lora(wan()[0]), "")
    kept = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(kept, more / "deep" / "own.safetensors")
    with_more = Settings(root=settings.root, gpu="cpu", lora_dir=more)
    name = "deep/own.safetensors"
    assert refusal(name, settings=with_more) == ""
    assert find_lora(name, "wan", with_more) == more / name
    put("b.safetensors")
    assert list_loras("wan", with_more) == ["b.safetensors", name, *SHIPPED]


def test_wrong_settings_beside_a_file_are_said(put, refusal):
    name = put(metadata={"lora_adapter_metadata": json.dumps([1])})
    assert "can't read the settings that belong to" in refusal(name)
