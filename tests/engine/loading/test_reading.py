import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

from engine.errors import Cancelled
from engine.loading.checkpoint import load_component
from engine.loading.interrupt import interruptible_load
from engine.loading.reading import ALIGNMENT, aligned
from tests.tiny_wan import make_transformer


@pytest.fixture
def folder(tmp_path):
    make_transformer().save_pretrained(tmp_path)
    return tmp_path


def test_weights_lie_aligned_in_memory(folder):
    loaded = load_component(WanTransformer3DModel, folder, "float32")
    for name, tensor in loaded.state_dict().items():
        assert tensor.data_ptr() % ALIGNMENT == 0, name


def test_half_precision_is_left_in_its_file(folder, monkeypatch):
    """A GPU gets a copy anyway: main memory needn't hold the weights too."""
    half = {name: x.bfloat16() for name, x in make_transformer().state_dict().items()}
    save_file(half, folder / "diffusion_pytorch_model.safetensors")
    copied = []
    monkeypatch.setattr(torch.Tensor, "clone", lambda x, **_: copied.append(x.dtype))
    load_component(WanTransformer3DModel, folder, "bfloat16")
    assert torch.bfloat16 not in copied


def test_what_lies_aligned_is_not_copied():
    tensor = torch.ones(64)
    assert aligned(tensor) is tensor
    moved = aligned(tensor[1:])
    assert moved.data_ptr() % ALIGNMENT == 0
    assert torch.equal(moved, tensor[1:])


def test_large_numbers_are_numbers_whatever_they_add_up_to(folder):
    stored = {name: x.half() for name, x in make_transformer().state_dict().items()}
    stored["proj_out.weight"] = torch.full_like(stored["proj_out.weight"], 60_000)
    assert not stored["proj_out.weight"].sum().isfinite()
    save_file(stored, folder / "diffusion_pytorch_model.safetensors")
    loaded = load_component(WanTransformer3DModel, folder, "float16")
    assert bool((loaded.proj_out.weight == 60_000).all())


def test_reading_ends_between_two_weights(folder):
    asked = []

    def stop():
        asked.append(1)
        if len(asked) == 5:
            raise Cancelled("stop")

    with interruptible_load(stop), pytest.raises(Cancelled):
        load_component(WanTransformer3DModel, folder, "float32")
    assert len(asked) == 5
