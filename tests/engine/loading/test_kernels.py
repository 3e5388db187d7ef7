from types import SimpleNamespace

import pytest
from torch._inductor.runtime.cache_dir_utils import cache_dir

from engine.loading.kernels import compile_blocks
from tests.tiny_wan import make_transformer


# torch's compiler imports its own deprecated parts.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiling_marks_every_block_and_keeps_the_results(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # to be put back
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    pipeline = SimpleNamespace(transformer=make_transformer())
    compile_blocks(pipeline, tmp_path)
    assert cache_dir() == str(tmp_path / "compiled")
    blocks = pipeline.transformer.blocks
    assert all(block._compiled_call_impl is not None for block in blocks)


def test_torch_s_own_variable_wins_and_no_denoiser_is_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compile_blocks(SimpleNamespace(), tmp_path / "root")
    assert cache_dir() == str(tmp_path)
