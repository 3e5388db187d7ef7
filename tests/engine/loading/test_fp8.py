from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from engine.errors import UserError
from engine.loading import fp8
from engine.loading.fp8 import Fp8Linear, replace_linears, use_fp8
from tests.tiny_wan import make_transformer


def cosine(a, b):
    return cosine_similarity(a.flatten().float(), b.flatten().float(), dim=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_token_and_each_row_has_its_own_scale(dtype):
    """One that is a thousand times another would round it to nothing."""
    torch.manual_seed(0)
    linear = nn.Linear(1024, 1024).to(dtype)
    tokens = torch.randn(2, 1024, 1024).to(dtype)
    with torch.no_grad():
        tokens[:, ::2] *= 1000
        linear.weight[::2] *= 1000
        expected = linear(tokens)
        found = Fp8Linear(linear)(tokens)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert not torch.equal(found, expected)
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        for columns in (slice(0, None, 2), slice(1, None, 2)):
            part = (slice(None), rows, columns)
            assert cosine(found[part], expected[part]) > 0.999


def test_few_tokens_stay_exact():
    linear = nn.Linear(1024, 1024)
    tokens = torch.randn(1, 512, 1024)
    assert torch.equal(Fp8Linear(linear)(tokens), linear(tokens))


def test_a_transformer_stays_close_and_keeps_its_weights(monkeypatch):
    monkeypatch.setattr(fp8, "LEAST_WIDTH", 16)
    monkeypatch.setattr(fp8, "MULTIPLE", 1)
    monkeypatch.setattr(fp8, "FEW_TOKENS", 16)
    torch.manual_seed(0)
    transformer = make_transformer().eval()
    clip = torch.randn(1, transformer.config.in_channels, 2, 16, 16)
    text = torch.randn(1, 6, transformer.config.text_dim)
    given = {"encoder_hidden_states": text, "timestep": torch.tensor([5])}
    with torch.no_grad():
        before = dict(transformer.state_dict())
        expected = transformer(clip, **given, return_dict=False)[0]
        assert replace_linears(transformer) > 0
        found = transformer(clip, **given, return_dict=False)[0]
    assert not torch.equal(found, expected)
    assert cosine(found, expected) > 0.999
    after = transformer.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert after.keys() == before.keys()


def test_a_changed_weight_acts_at_once():
    """A LoRA's, say."""
    layer = Fp8Linear(nn.Linear(1024, 1024, bias=False))
    tokens = torch.randn(1024, 1024)
    before = layer(tokens)
    layer.weight = nn.Parameter(2 * layer.weight)
    assert torch.allclose(layer(tokens), 2 * before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("device", "capability", "why"),
    [
        ("cpu", None, "they need an NVIDIA GPU, and the model runs on cpu"),
        ("cuda:0", (8, 6), "they need compute capability 8.9, and this GPU has 8.6"),
    ],
)
def test_a_device_without_such_products_is_refused(
    device, capability, why, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    with pytest.raises(UserError, match=why):
        use_fp8(SimpleNamespace(transformer=make_transformer()), device)
