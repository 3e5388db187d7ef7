from types import SimpleNamespace

import pytest

from engine.loading.kernels import compile_blocks
from tests.tiny_wan import make_transformer


# torch's compiler imports its own deprecated parts.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiling_marks_every_block():
    pipeline = SimpleNamespace(transformer=make_transformer())
    compile_blocks(pipeline)
    blocks = pipeline.transformer.blocks
    assert all(block._compiled_call_impl is not None for block in blocks)


def test_a_pipeline_without_a_denoiser_is_left_alone():
    compile_blocks(SimpleNamespace())
