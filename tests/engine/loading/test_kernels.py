from types import SimpleNamespace

import pytest

from engine.errors import UserError
from engine.loading.kernels import compile_blocks, use_attention
from tests.tiny_wan import make_transformer


@pytest.fixture
def pipeline():
    return SimpleNamespace(transformer=make_transformer())


def backends(pipeline):
    processors = pipeline.transformer.attn_processors.values()
    return {getattr(p._attention_backend, "value", None) for p in processors}


def test_auto_leaves_the_choice_to_diffusers(pipeline):
    use_attention(pipeline, "auto")
    assert backends(pipeline) == {None}


def test_the_attention_backend_of_the_settings_is_used(pipeline):
    use_attention(pipeline, "_native_math")
    assert backends(pipeline) == {"_native_math"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fastest", "attention 'fastest' can't be used: .*must be one of .*native"),
        ("sage", "attention 'sage' can't be used: .*install `sageattention"),
    ],
)
def test_a_backend_that_is_unknown_or_absent_is_refused(pipeline, name, reason):
    with pytest.raises(UserError, match=reason):
        use_attention(pipeline, name)


# torch's compiler imports its own deprecated parts.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiling_marks_every_block(pipeline):
    compile_blocks(pipeline)
    blocks = pipeline.transformer.blocks
    assert all(block._compiled_call_impl is not None for block in blocks)


def test_a_pipeline_without_a_denoiser_is_left_alone():
    use_attention(SimpleNamespace(), "fastest")
    compile_blocks(SimpleNamespace())
