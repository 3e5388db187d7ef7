"""The way of the weights, without the GPU's streams."""

import pytest
import torch

from engine.loading.streaming import (
    Streamer,
    blocks_of,
    bytes_of,
    kept_evenly,
    least_bytes,
    look_up_in_main_memory,
    tables_of,
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


def test_slots_come_again_after_they_were_freed(transformer):
    expected = answer(transformer)
    streamer = Streamer([transformer], "cpu")
    for _ in range(2):
        assert torch.equal(answer(transformer), expected)
        assert sum(memory is not None for memory in streamer._slots) == 2
        streamer.free_slots()
        assert streamer._slots == [None, None]


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


def text_encoders():
    from transformers import (
        LlamaConfig,
        LlamaModel,
        Qwen2Config,
        Qwen2Model,
        T5Config,
        T5EncoderModel,
        UMT5Config,
        UMT5EncoderModel,
    )

    t5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    llama = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    return {
        "umt5": lambda: UMT5EncoderModel(UMT5Config(vocab_size=512, **t5)),
        "t5": lambda: T5EncoderModel(T5Config(vocab_size=512, **t5)),
        "llama": lambda: LlamaModel(LlamaConfig(vocab_size=512, **llama)),
        "qwen": lambda: Qwen2Model(Qwen2Config(vocab_size=512, **llama)),
    }


@pytest.fixture(params=text_encoders())
def text_encoder(request, monkeypatch):
    monkeypatch.setattr("engine.loading.streaming.LARGE_TABLE", 512 * 16 * 4)
    torch.manual_seed(0)
    return text_encoders()[request.param]().eval()


IDS = torch.tensor([[3, 511, 7, 0]])


def test_a_large_table_takes_nothing_of_the_device(text_encoder):
    (table,) = {each.weight for each in tables_of(text_encoder)}
    assert table.shape == (512, 16)
    blocks = [bytes_of(block) for block in blocks_of(text_encoder)]
    rest = bytes_of(text_encoder) - sum(blocks) - table.nbytes
    assert least_bytes([text_encoder]) == rest + 2 * max(blocks)


def test_rows_of_a_large_table_are_the_same_bits(text_encoder):
    with torch.no_grad():
        expected = text_encoder(IDS).last_hidden_state
        Streamer([text_encoder], "cpu")
        assert torch.equal(text_encoder(IDS).last_hidden_state, expected)


@pytest.mark.parametrize("name", text_encoders())
def test_a_prompt_is_encoded_on_the_device_though_the_table_is_not(name, monkeypatch):
    monkeypatch.setattr("engine.loading.streaming.LARGE_TABLE", 512 * 16 * 4)
    device = torch.device("meta")  # which refuses to compute with what lies elsewhere
    with device:
        network = text_encoders()[name]().eval()
    weight = torch.nn.Parameter(torch.zeros(512, 16))
    for table in tables_of(network):
        table.weight = weight
        look_up_in_main_memory(table, device)
    with torch.no_grad():
        made = network(IDS).last_hidden_state
    assert (weight.device.type, made.device.type) == ("cpu", "meta")
    assert made.shape == (1, 4, 16)
