"""The kernel itself needs a GPU: here plain products stand for it."""

import sys
from types import SimpleNamespace

import pytest
import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from torch.nn.functional import cosine_similarity, scaled_dot_product_attention

from engine.attention import flash3
from engine.attention.registry import Machine
from engine.attention.use import use_attention
from tests.tiny_wan import make_transformer

TOKENS = flash3.FEW_KEYS
H100 = Machine((9, 0), {"fa3-fwd": "0.0.3"})


def attention(query, key, value, *, softmax_scale=None, causal=False, **scales):
    """What the package computes from what it is given."""
    sizes = (scales["q_descale"], scales["k_descale"], scales["v_descale"])
    parts = [
        part.float() * (1 if size is None else size[:, None, :, None])
        for part, size in zip((query, key, value), sizes, strict=True)
    ]
    heads_first = [part.transpose(1, 2) for part in parts]
    out = scaled_dot_product_attention(
        *heads_first, scale=softmax_scale, is_causal=causal
    )
    return out.transpose(1, 2), None


@pytest.fixture
def kernel(monkeypatch):
    """As if the package were installed and ran on a CPU; lists what it was given."""
    calls = []

    def called(*inputs, **options):
        calls.append(inputs[0].dtype)
        return attention(*inputs, **options)

    def without_dispatcher(query, key, value, *rest):
        *scales, scale, causal = rest
        names = ("q_descale", "k_descale", "v_descale")
        options = dict(zip(names, scales, strict=True))
        found = flash3.KERNEL["now"](
            query, key, value, softmax_scale=scale, causal=causal, **options
        )
        return found[0]

    module = SimpleNamespace(flash_attn_func=called)
    monkeypatch.setitem(sys.modules, "fa3_fwd_interface", module)
    monkeypatch.setattr(flash3, "_flash3", without_dispatcher)
    monkeypatch.setattr(flash3, "KERNEL", {})
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_FLASH_ATTN_3", False)
    for table in ("_backends", "_constraints", "_supported_arg_names"):
        own = dict(getattr(_AttentionBackendRegistry, table))
        monkeypatch.setattr(_AttentionBackendRegistry, table, own)
    return calls


def inputs(tokens=TOKENS):
    torch.manual_seed(0)
    return [torch.randn(1, tokens, 2, 64) for _ in range(3)]


def test_a_model_runs_by_the_package(kernel, monkeypatch):
    monkeypatch.setattr("engine.attention.use.machine_of", lambda _: H100)
    transformer = make_transformer().eval()
    given = {"timestep": torch.tensor([5]), "return_dict": False}
    text = torch.randn(1, 6, transformer.config.text_dim)
    clip = torch.randn(1, transformer.config.in_channels, 2, 8, 8)
    pipeline = SimpleNamespace(transformer=transformer)
    with torch.no_grad():
        use_attention(pipeline, "sdpa")
        (expected,) = transformer(clip, encoder_hidden_states=text, **given)
        assert not kernel
        use_attention(pipeline, "flash3")
        (found,) = transformer(clip, encoder_hidden_states=text, **given)
    assert len(kernel) == 2 * len(transformer.blocks)
    assert torch.allclose(found, expected, atol=1e-5)


def test_8_bits_are_close_also_where_keys_share_a_large_mean(kernel, monkeypatch):
    flash3.register("fa3-fwd")
    query, key, value = inputs()
    key[..., :4] += 30
    exact = flash3.attend(query, key, value)
    found = flash3.attend_in_8_bits(query, key, value)
    assert kernel == [torch.float32, torch.float8_e4m3fn]
    assert cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.998
    monkeypatch.setattr(flash3, "centred", lambda key: key)
    found = flash3.attend_in_8_bits(query, key, value)
    assert cosine_similarity(found.flatten(), exact.flatten(), dim=0) < 0.99


def test_centred_keys_give_the_same_attention(kernel):
    flash3.register("fa3-fwd")
    query, key, value = inputs(64)
    expected = flash3.attend(query, key + 3, value)
    found = flash3.attend(query, flash3.centred(key + 3), value)
    assert torch.allclose(found, expected, atol=1e-5)


def test_prompts_and_masked_tokens_stay_in_full_precision(kernel):
    flash3.register("fa3-fwd")
    query, key, value = inputs(64)
    flash3.attend_in_8_bits(query, key, value)
    assert kernel == [torch.float32]
    mask = torch.ones(1, 64, dtype=torch.bool)
    mask[:, 32:] = False
    found = flash3.attend_in_8_bits(query, key, value, mask)
    expected = flash3.attend(query, key[:, :32], value[:, :32])
    assert torch.allclose(found, expected, atol=1e-5)
