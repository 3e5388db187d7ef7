from types import SimpleNamespace

import pytest
from diffusers import LTXVideoTransformer3DModel
from diffusers.models.attention_dispatch import _AttentionBackendRegistry

from engine.attention import use
from engine.attention.registry import Machine
from engine.attention.use import masks_attention, use_attention
from engine.errors import UserError
from tests.tiny_wan import make_transformer

H100 = Machine((9, 0), {"sageattention": "2.2.0", "flash-attn": "2.8.3"})


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


@pytest.fixture
def on_a_gpu(monkeypatch):
    """As if there were a GPU, with these timings; returns what was timed."""
    timed = []

    def time_backends(candidates, device, head_dim, _machine):
        timed.append((device, head_dim, [each.name for each in candidates]))
        return {each.name: 1.0 for each in candidates} | {"sdpa-cudnn": 0.5}

    monkeypatch.setattr(use, "machine_of", lambda _: H100)
    monkeypatch.setattr(use, "machine_name", lambda *_: "H100")
    monkeypatch.setattr(use, "time_backends", time_backends)
    return timed


def backends(pipeline):
    processors = pipeline.transformer.attn_processors.values()
    return {getattr(p._attention_backend, "value", None) for p in processors}


def test_ltx_masks_its_prompts_and_wan_does_not(pipeline):
    assert masks_attention(make_ltx_transformer())
    assert not masks_attention(pipeline.transformer)


def test_a_backend_is_that_of_one_model(pipeline):
    usual = _AttentionBackendRegistry.get_active_backend()
    use_attention(pipeline, "sdpa-math")
    assert _AttentionBackendRegistry.get_active_backend() == usual
    second = SimpleNamespace(transformer=make_transformer())
    use_attention(second, "auto")
    assert backends(pipeline) == {"_native_math"}
    assert backends(second) == {"native"}


def test_both_denoisers_of_a_pair_use_it(pipeline):
    pipeline.transformer_2 = make_transformer()
    use_attention(pipeline, "sdpa-math")
    second = SimpleNamespace(transformer=pipeline.transformer_2)
    assert backends(second) == {"_native_math"}


def test_nothing_is_timed_where_there_is_no_choice(pipeline, monkeypatch, tmp_path):
    monkeypatch.setattr(use, "time_backends", lambda *_: pytest.fail("timed"))
    use_attention(pipeline, "auto", "cpu", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_auto_is_measured_once_and_kept(pipeline, on_a_gpu, tmp_path):
    use_attention(pipeline, "auto", "cuda:0", tmp_path)
    assert backends(pipeline) == {"_native_cudnn"}
    size = pipeline.transformer.config.attention_head_dim
    names = ["sdpa", "sdpa-cudnn", "sdpa-flash", "sdpa-efficient", "flash"]
    assert on_a_gpu == [("cuda:0", size, names)]
    second = SimpleNamespace(transformer=make_transformer())
    use_attention(second, "auto", "cuda:0", tmp_path)
    assert backends(second) == {"_native_cudnn"}
    assert len(on_a_gpu) == 1
    assert (tmp_path / "attention.json").exists()


def test_sage_is_refused_for_a_model_that_masks(on_a_gpu):
    pipeline = SimpleNamespace(transformer=make_ltx_transformer())
    with pytest.raises(UserError, match="takes no attention masks, which this model"):
        use_attention(pipeline, "sage")
    use_attention(pipeline, "auto")
    assert backends(pipeline) == {"_native_cudnn"}


def test_what_diffusers_refuses_after_all_is_told(pipeline, on_a_gpu):
    """Its package is said to be installed, and isn't."""
    with pytest.raises(UserError, match=r"'sage' can't be used: .*Here there is sdpa"):
        use_attention(pipeline, "sage")


def test_a_pipeline_without_a_denoiser_is_left_alone():
    use_attention(SimpleNamespace(), "fastest")
