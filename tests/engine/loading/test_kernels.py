from types import SimpleNamespace

import pytest
from diffusers import LTXVideoTransformer3DModel
from diffusers.models import attention_dispatch

from engine.errors import UserError
from engine.loading import kernels
from engine.loading.kernels import (
    BACKENDS,
    available_attention,
    choose_attention,
    compile_blocks,
    masks_attention,
    use_attention,
)
from tests.tiny_wan import make_transformer

SAGE2 = {"sageattention": "2.2.0"}
SAGE1 = {"sageattention": "1.0.6"}
ALL = {**SAGE2, "flash-attn": "2.8.3.post1", "xformers": "0.0.35+cu128"}


def make_ltx_transformer():
    return LTXVideoTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        num_layers=1,
    )


@pytest.fixture
def pipeline():
    return SimpleNamespace(transformer=make_transformer())


def backends(pipeline):
    processors = pipeline.transformer.attn_processors.values()
    return {getattr(p._attention_backend, "value", None) for p in processors}


@pytest.mark.parametrize(
    ("capability", "installed", "masks", "available", "chosen"),
    [
        (None, {}, False, ["native"], "native"),
        (None, ALL, False, ["native"], "native"),
        ((9, 0), {}, False, ["native"], "native"),
        ((9, 0), SAGE2, False, ["sage", "native"], "sage"),
        ((8, 6), SAGE2, False, ["sage", "native"], "sage"),
        ((12, 0), SAGE2, False, ["sage", "native"], "sage"),
        ((7, 5), SAGE2, False, ["native"], "native"),
        ((10, 0), SAGE2, False, ["native"], "native"),
        ((9, 0), SAGE1, False, ["native"], "native"),
        ((9, 0), {"sageattention": "2.1.0"}, False, ["native"], "native"),
        ((9, 0), {"sageattention": "2.1.1"}, False, ["sage", "native"], "sage"),
        ((9, 0), SAGE2, True, ["native"], "native"),
        ((9, 0), ALL, False, ["sage", "flash", "xformers", "native"], "sage"),
        ((9, 0), ALL, True, ["xformers", "native"], "native"),
        ((9, 0), {"flash-attn": "2.6.2"}, False, ["native"], "native"),
    ],
)
def test_auto_is_the_best_that_gpu_packages_and_model_support(
    capability, installed, masks, available, chosen
):
    assert available_attention(capability, installed, masks=masks) == available
    assert choose_attention(capability, installed, masks=masks) == chosen


def test_diffusers_wants_the_same_versions():
    required = {
        "sage": attention_dispatch._REQUIRED_SAGE_VERSION,
        "flash": attention_dispatch._REQUIRED_FLASH_VERSION,
        "xformers": attention_dispatch._REQUIRED_XFORMERS_VERSION,
    }
    ours = {each.name: ".".join(map(str, each.oldest)) for each in BACKENDS}
    assert ours == required


def test_ltx_masks_its_prompts_and_wan_does_not(pipeline):
    assert masks_attention(make_ltx_transformer())
    assert not masks_attention(pipeline.transformer)


def test_a_backend_is_always_set(pipeline):
    """Or the next model would get the one that was set last."""
    use_attention(pipeline, "_native_math")
    second = SimpleNamespace(transformer=make_transformer())
    use_attention(second, "auto")
    assert backends(pipeline) == {"_native_math"}
    assert backends(second) == {"native"}


@pytest.mark.parametrize(
    ("asked", "used"), [("_native_math", "_native_math"), ("sdpa", "native")]
)
def test_the_attention_backend_of_the_settings_is_used(pipeline, asked, used):
    use_attention(pipeline, asked)
    assert backends(pipeline) == {used}


def test_both_denoisers_of_a_pair_use_it(pipeline):
    pipeline.transformer_2 = make_transformer()
    use_attention(pipeline, "_native_math")
    assert backends(SimpleNamespace(transformer=pipeline.transformer_2)) == {
        "_native_math"
    }


@pytest.mark.parametrize(
    ("name", "capability", "installed", "reason"),
    [
        ("sage", (9, 0), {}, "it needs the package sageattention 2.1.1 or later."),
        ("sage2", (9, 0), SAGE1, "2.1.1 or later, and 1.0.6 is installed."),
        ("sage", (7, 5), SAGE2, "no kernels for a GPU of compute capability 7.5."),
        ("sage", None, SAGE2, "it needs a CUDA device."),
        ("fastest", None, {}, "must be one of the following: "),
    ],
)
def test_a_backend_that_can_not_run_is_refused_with_those_that_can(
    pipeline, monkeypatch, name, capability, installed, reason
):
    monkeypatch.setattr(kernels, "_capability", lambda _: capability)
    monkeypatch.setattr(kernels, "_installed", lambda: installed)
    with pytest.raises(UserError) as caught:
        use_attention(pipeline, name)
    assert "can't be used: " in str(caught.value)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("Here there is native; auto chooses among them")


def test_sage_is_refused_for_a_model_that_masks(monkeypatch):
    monkeypatch.setattr(kernels, "_capability", lambda _: (9, 0))
    monkeypatch.setattr(kernels, "_installed", lambda: ALL)
    pipeline = SimpleNamespace(transformer=make_ltx_transformer())
    with pytest.raises(UserError, match="takes no attention masks, which this model"):
        use_attention(pipeline, "sage")
    use_attention(pipeline, "auto")
    assert backends(pipeline) == {"native"}


# torch's compiler imports its own deprecated parts.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiling_marks_every_block(pipeline):
    compile_blocks(pipeline)
    blocks = pipeline.transformer.blocks
    assert all(block._compiled_call_impl is not None for block in blocks)


def test_a_pipeline_without_a_denoiser_is_left_alone():
    use_attention(SimpleNamespace(), "fastest")
    compile_blocks(SimpleNamespace())
