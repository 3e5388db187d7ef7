from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from engine.errors import UserError
from engine.loading import products
from engine.loading.products import EightBitLinear, replace_linears, use_products
from tests.tiny_wan import make_transformer

KINDS = pytest.mark.parametrize("kind", ["int8", "fp8"])


def cosine(a, b):
    return cosine_similarity(a.flatten().float(), b.flatten().float(), dim=0)


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_token_and_each_row_has_its_own_scale(kind, dtype):
    """One that is a thousand times another would round it to nothing."""
    torch.manual_seed(0)
    linear = nn.Linear(1024, 1024).to(dtype)
    tokens = torch.randn(2, 1024, 1024).to(dtype)
    with torch.no_grad():
        tokens[:, ::2] *= 1000
        linear.weight[::2] *= 1000
        expected = linear(tokens)
        found = EightBitLinear(linear, kind)(tokens)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert not torch.equal(found, expected)
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        for columns in (slice(0, None, 2), slice(1, None, 2)):
            part = (slice(None), rows, columns)
            assert cosine(found[part], expected[part]) > 0.999


@KINDS
def test_few_tokens_stay_exact(kind):
    linear = nn.Linear(1024, 1024)
    tokens = torch.randn(1, 512, 1024)
    assert torch.equal(EightBitLinear(linear, kind)(tokens), linear(tokens))


def test_whole_numbers_are_nearer_than_floats():
    torch.manual_seed(0)
    linear = nn.Linear(1024, 1024)
    tokens = torch.randn(1024, 1024)
    error = {}
    with torch.no_grad():
        exact = linear(tokens)
        for kind in ("int8", "fp8"):
            found = EightBitLinear(linear, kind)(tokens)
            error[kind] = float((found - exact).std() / exact.std())
    assert error["int8"] < 0.012
    assert 0.025 < error["fp8"] < 0.04


@KINDS
def test_what_is_no_number_stays_none(kind):
    tokens = torch.randn(1024, 1024)
    tokens[3, 5] = torch.nan
    found = EightBitLinear(nn.Linear(1024, 1024), kind)(tokens)
    assert found[3].isnan().all()
    assert found[4:].isfinite().all()


@KINDS
def test_a_transformer_stays_close_and_keeps_its_weights(kind, monkeypatch):
    monkeypatch.setattr(products, "LEAST_WIDTH", 16)
    monkeypatch.setattr(products, "MULTIPLE", 1)
    monkeypatch.setattr(products, "FEW_TOKENS", 16)
    torch.manual_seed(0)
    transformer = make_transformer().eval()
    clip = torch.randn(1, transformer.config.in_channels, 2, 16, 16)
    text = torch.randn(1, 6, transformer.config.text_dim)
    given = {"encoder_hidden_states": text, "timestep": torch.tensor([5])}
    with torch.no_grad():
        before = dict(transformer.state_dict())
        expected = transformer(clip, **given, return_dict=False)[0]
        assert replace_linears(transformer, kind) > 0
        found = transformer(clip, **given, return_dict=False)[0]
    assert not torch.equal(found, expected)
    assert cosine(found, expected) > 0.999
    after = transformer.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert after.keys() == before.keys()


@KINDS
def test_a_changed_weight_acts_at_once(kind):
    """A LoRA's, say."""
    layer = EightBitLinear(nn.Linear(1024, 1024, bias=False), kind)
    tokens = torch.randn(1024, 1024)
    before = layer(tokens)
    layer.weight = nn.Parameter(2 * layer.weight)
    assert torch.allclose(layer(tokens), 2 * before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "device", "capability", "why"),
    [
        ("fp8", "cpu", None, "they need an NVIDIA GPU, and the model runs on cpu"),
        (
            *("fp8", "cuda:0", (8, 6)),
            "they need compute capability 8.9, and this GPU has 8.6; int8 it can",
        ),
        (
            *("int8", "cuda:0", (7, 5)),
            "they need compute capability 8.0, and this GPU has 7.5",
        ),
    ],
)
def test_a_device_without_such_products_is_refused(
    kind, device, capability, why, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    pipeline = SimpleNamespace(transformer=make_transformer())
    with pytest.raises(UserError, match=f"^products in {kind} can't be used: {why}$"):
        use_products(pipeline, kind, device)
