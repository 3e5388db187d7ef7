import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from engine.loading.chunked import feed_forward_chunked
from tests.tiny_hyvideo import make_transformer as make_hunyuan
from tests.tiny_ltx import make_transformer as make_ltx
from tests.tiny_wan import make_transformer as make_wan


@pytest.mark.parametrize("make", [make_wan, make_ltx, partial(make_hunyuan, None)])
def test_chunks_are_narrow_and_give_the_same(make):
    torch.manual_seed(1)
    transformer = make()
    layer = next(
        module
        for module in transformer.modules()
        if type(module).__name__ == "FeedForward"
    )
    width = next(layer.parameters()).shape[1]
    tokens = torch.randn(2, 50, width)
    widths = []
    layer.net[0].register_forward_hook(lambda m, a, out: widths.append(out.shape[1]))
    before = copy.copy(vars(layer))
    with torch.no_grad():
        whole = layer(tokens)
        with feed_forward_chunked(SimpleNamespace(transformer=transformer), 8):
            parts = layer(tokens)
        again = layer(tokens)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)
    assert torch.equal(again, whole)
    assert widths == [50, *[7] * 7, 1, 50]
    assert vars(layer) == before


def test_one_chunk_and_no_transformer_change_nothing():
    transformer = make_wan()
    with feed_forward_chunked(SimpleNamespace(transformer=transformer), 1):
        assert not any("forward" in vars(each) for each in transformer.modules())
    with feed_forward_chunked(SimpleNamespace(), 8):
        pass
