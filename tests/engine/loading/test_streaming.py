"""The way of the weights, without the GPU's streams."""

import pytest
import torch

from engine.loading.streaming import (
    Streamer,
    blocks_of,
    bytes_of,
    kept_evenly,
    least_bytes,
)
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


@pytest.mark.parametrize("kept", [1, 2])
def test_blocks_that_there_is_room_for_stay(transformer, kept):
    expected = answer(transformer)
    before = [block.attn1.to_q.weight.data_ptr() for block in transformer.blocks]
    room = kept * bytes_of(transformer.blocks[0])
    Streamer([transformer], "cpu", room={transformer: room})
    after = [block.attn1.to_q.weight.data_ptr() for block in transformer.blocks]
    assert sum(map(int.__eq__, before, after)) == kept
    assert torch.equal(answer(transformer), expected)
    assert torch.equal(answer(transformer), expected)


@pytest.mark.parametrize(
    ("room", "kept"),
    [(0, ""), (3, ""), (8, "13"), (12, "123"), (15, "123"), (99, "0123")],
)
def test_what_is_kept_is_spread_evenly(room, kept):
    blocks = [torch.nn.Linear(1, 1, bias=False) for _ in range(4)]
    chosen = kept_evenly(blocks, room)
    assert "".join(str(i) for i, each in enumerate(blocks) if each in chosen) == kept


def test_streaming_takes_two_slots_and_what_is_in_no_block(transformer):
    largest = max(bytes_of(block) for block in transformer.blocks)
    rest = bytes_of(transformer) - sum(bytes_of(block) for block in transformer.blocks)
    assert least_bytes([transformer]) == rest + 2 * largest


def test_two_networks_share_the_slots(transformer):
    torch.manual_seed(2)
    second = make_transformer().eval()
    expected = [answer(transformer), answer(second)]
    Streamer([transformer, second], "cpu")
    for _ in range(2):
        assert torch.equal(answer(transformer), expected[0])
        assert torch.equal(answer(second), expected[1])


def test_a_change_acts_on_the_device_only_and_goes_again(transformer):
    expected = answer(transformer)
    streamer = Streamer([transformer], "cpu")
    weight = transformer.blocks[1].attn1.to_q.weight
    before = weight.data.clone()
    streamer.set_change(weight, lambda copied: copied.mul_(2))
    changed = answer(transformer)
    assert not torch.allclose(changed, expected)
    assert torch.equal(answer(transformer), changed)
    assert torch.equal(weight.data, before)
    streamer.set_change(weight, None)
    assert torch.equal(answer(transformer), expected)


def test_only_weights_of_blocks_are_streamed(transformer):
    streamer = Streamer([transformer], "cpu")
    assert streamer.streams(transformer.blocks[0].attn1.to_q.weight)
    assert not streamer.streams(transformer.proj_out.weight)


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
    room = {transformer: bytes_of(transformer.blocks[0])}
    Streamer([transformer], "cpu", compiled=[transformer], room=room)
    assert all(block._compiled_call_impl for block in transformer.blocks)
    assert torch.allclose(answer(transformer), expected, atol=1e-5)
    assert torch.allclose(answer(transformer), expected, atol=1e-5)
