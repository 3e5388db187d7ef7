"""The way of the weights, without the GPU's streams."""

import pytest
import torch

from engine.loading.streaming import Streamer, blocks_of
from tests.tiny_wan import make_transformer


@pytest.fixture
def transformer():
    torch.manual_seed(0)
    return make_transformer().eval()


def answer(transformer):
    torch.manual_seed(1)
    clip = torch.randn(1, transformer.config.in_channels, 2, 8, 8)
    text = torch.randn(1, 6, transformer.config.text_dim)
    with torch.no_grad():
        return transformer(
            clip,
            timestep=torch.tensor([5]),
            encoder_hidden_states=text,
            return_dict=False,
        )[0]


def test_the_blocks_hold_most_of_the_weights(transformer):
    assert blocks_of(transformer) == list(transformer.blocks)


def test_streamed_blocks_give_the_same_bits_again_and_again(transformer):
    expected = answer(transformer)
    Streamer([transformer], "cpu")
    assert torch.equal(answer(transformer), expected)
    assert torch.equal(answer(transformer), expected)


def test_two_networks_share_the_slots(transformer):
    torch.manual_seed(2)
    second = make_transformer().eval()
    expected = [answer(transformer), answer(second)]
    Streamer([transformer, second], "cpu")
    for _ in range(2):
        assert torch.equal(answer(transformer), expected[0])
        assert torch.equal(answer(second), expected[1])


def test_a_changed_weight_acts_and_comes_back(transformer):
    expected = answer(transformer)
    Streamer([transformer], "cpu")
    weight = transformer.blocks[1].attn1.to_q.weight
    original = weight.data
    weight.data = 2 * original
    assert not torch.allclose(answer(transformer), expected)
    weight.data = original
    assert torch.equal(answer(transformer), expected)


def test_between_calls_the_weights_are_in_main_memory_in_one_piece(transformer):
    Streamer([transformer], "cpu")
    answer(transformer)
    for block in transformer.blocks:
        bases = {w.untyped_storage().data_ptr() for w in block.parameters()}
        assert len(bases) == 1


# torch's compiler imports its own deprecated parts.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_blocks_are_streamed_alike(transformer, monkeypatch):
    def compiled(block):
        block._compiled_call_impl = torch.compile(block._call_impl, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compiled)
    expected = answer(transformer)
    Streamer([transformer], "cpu", compiled=[transformer])
    assert torch.allclose(answer(transformer), expected, atol=1e-5)
    assert torch.allclose(answer(transformer), expected, atol=1e-5)
