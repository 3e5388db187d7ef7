"""LoRAs that become part of the weights give what peft gives, and go again."""

import copy

import pytest
import torch

from engine.errors import Cancelled
from engine.loading.quantised import quantise_modules
from engine.loading.streaming import Streamer, bytes_of
from engine.lora import apply
from tests.engine.lora.formats import KOHYA, written
from tests.engine.lora.networks import NETWORKS, make_lora, run, wan

CLOSE = 1e-5


@pytest.fixture
def on_gpu(monkeypatch):
    """Models are treated as those on a GPU are."""
    monkeypatch.setattr(apply, "merges", lambda model: True)


def kinds(changes):
    attention = {name: change for name, change in changes.items() if "attn" in name}
    found = {"LoRA": written(changes, "", KOHYA, alpha=2.0)}
    for name, change in attention.items():
        rows, width = len(change.up), change.down.shape[1]
        torch.manual_seed(rows)
        parts = {
            "LoKr": {
                "lokr_w1": torch.randn(2, 2) * 0.3,
                "lokr_w2": torch.randn(rows // 2, width // 2) * 0.3,
            },
            "difference": {"diff": torch.randn(rows, width) * 0.1},
            "DoRA": {
                "lora_A.weight": change.down.clone(),
                "lora_B.weight": change.up,
                "dora_scale": torch.linspace(0.5, 1.5, rows)[:, None],
            },
        }
        for kind, tensors in parts.items():
            named = {f"{name}.{part}": tensor for part, tensor in tensors.items()}
            found.setdefault(kind, {}).update(named)
    return found


def both_ways(monkeypatch, do):
    """What ``do`` gives by merging and by peft."""
    results = []
    for merged in (True, False):
        monkeypatch.setattr(apply, "merges", lambda _, merged=merged: merged)
        results.append(do())
    return results


@pytest.mark.parametrize("kind", ["LoRA", "LoKr", "difference", "DoRA", "stacked"])
@pytest.mark.parametrize("network", list(NETWORKS))
def test_merging_gives_what_peft_gives(monkeypatch, put_on, network, kind):
    make, model = NETWORKS[network]
    made, compute = make()
    plain = run(made, compute)
    state = {name: t.clone() for name, t in made.state_dict().items()}
    tensors = kinds(make_lora(made))
    loras = [(tensors[kind], 0.7)] if kind in tensors else []
    loras = loras or [(tensors["LoRA"], 0.5), (tensors["LoKr"], -0.4)]

    def do():
        with put_on(made, model, *loras):
            return run(made, compute)

    merged, reference = both_ways(monkeypatch, do)
    assert float((reference - plain).abs().max()) > 0.001
    assert float((merged - reference).abs().max()) <= CLOSE
    assert all(torch.equal(t, state[name]) for name, t in made.state_dict().items())
    assert torch.equal(run(made, compute), plain)


def test_the_same_tensors_come_back(on_gpu, put_on):
    network, compute = wan()
    before = {name: p.data_ptr() for name, p in network.named_parameters()}
    parameters = dict(network.named_parameters())
    tensors = written(make_lora(network), "")
    with put_on(network, "wan-demo", (tensors, 1.0)):
        run(network, compute)
        during = {name: p.data_ptr() for name, p in network.named_parameters()}
    assert during != before
    assert before == {name: p.data_ptr() for name, p in network.named_parameters()}
    assert all(parameters[name] is p for name, p in network.named_parameters())


@pytest.mark.parametrize("error", [Cancelled("x"), MemoryError()])
def test_a_failure_leaves_nothing(on_gpu, put_on, error):
    network, compute = wan()
    plain = run(network, compute)
    tensors = written(make_lora(network), "")
    with pytest.raises(type(error)), put_on(network, "wan-demo", (tensors, 1.0)):
        raise error
    assert torch.equal(run(network, compute), plain)


def test_multipliers_follow_the_steps_and_0_is_bit_equal_to_none(on_gpu, put_on):
    network, compute = wan()
    plain = run(network, compute)
    tensors = written(make_lora(network), "")
    with put_on(network, "wan-demo", (tensors, 0.5)):
        half = run(network, compute)
    seen = []
    with put_on(network, "wan-demo", (tensors, "0,0.5,0,0.5")) as given:
        on_step = given.follow(lambda *_: None)
        for done in range(1, 5):
            seen.append(run(network, compute))
            on_step(done, 4, None)
    wanted = [plain, half, plain, half]
    assert all(torch.equal(*pair) for pair in zip(seen, wanted, strict=True))


def test_half_precision_is_rounded_once(on_gpu, put_on):
    network, _ = wan()
    changes = make_lora(network)
    half = copy.deepcopy(network).bfloat16()
    name = "blocks.0.attn1.to_q"
    own = half.get_submodule(name).weight.clone()
    with put_on(half, "wan-demo", (written(changes, ""), 1.0)):
        merged = half.get_submodule(name).weight.clone()
    change = changes[name]
    up, down = change.up.bfloat16().float(), change.down.bfloat16().float()
    assert torch.equal(merged, (own.float() + up @ down).bfloat16())
    assert torch.equal(half.get_submodule(name).weight, own)


@pytest.mark.parametrize("kind", ["LoRA", "LoKr", "DoRA"])
@pytest.mark.parametrize("network", list(NETWORKS))
def test_streamed_weights_are_changed_alike(on_gpu, put_on, network, kind):
    """Some of the blocks stay on the device, and the others in main memory as they
    were."""
    make, model = NETWORKS[network]
    made, compute = make()
    loras = [(kinds(make_lora(made))[kind], "0.7,0,-0.3,0.7")]

    def do(streamer=None):
        seen = []
        with put_on(made, model, *loras, streamer=streamer) as given:
            on_step = given.follow(lambda *_: None)
            for done in range(1, 5):
                seen.append(run(made, compute))
                on_step(done, 4, None)
        return seen

    plain, expected = run(made, compute), do()
    assert len({float(each.sum()) for each in expected}) == 3
    room = {made: bytes_of(made) // 2}
    streamer = Streamer([made], "cpu", room=room)
    state = {name: t.clone() for name, t in made.state_dict().items()}
    streamed = do(streamer)
    assert all(torch.equal(*pair) for pair in zip(streamed, expected, strict=True))
    assert all(torch.equal(t, state[name]) for name, t in made.state_dict().items())
    assert torch.equal(run(made, compute), plain)


def test_8_bit_weights_are_left_to_peft(monkeypatch, put_on):
    make, model = NETWORKS["ltx_video"]
    network, compute = make()
    changes = make_lora(network)
    names = [
        f"{name}.weight"
        for name in changes
        if network.get_submodule(name).in_features % 32 == 0
    ]
    quantise_modules(network, names)
    for module in network.modules():
        if hasattr(module, "freeze"):
            module.freeze()
    plain = run(network, compute)

    def do():
        with put_on(network, model, (written(changes, ""), 1.0)):
            return run(network, compute)

    assert torch.equal(*both_ways(monkeypatch, do))
    assert torch.equal(run(network, compute), plain)


@pytest.mark.parametrize("network", ["wan", "ltx_video", "hyvideo"])
def test_in_half_precision_merging_is_close_to_peft(monkeypatch, put_on, network):
    make, model = NETWORKS[network]
    made, compute = make()
    tensors = written(make_lora(made), "")
    half = made.bfloat16()

    def with_lora():
        with put_on(half, model, (tensors, 1.0)):
            return in_half(compute)(half)

    merged, by_peft = both_ways(monkeypatch, with_lora)
    plain = in_half(compute)(half)
    assert decibels(merged, by_peft) > 45
    assert decibels(plain, by_peft) < 30


def in_half(compute):
    def computed(network):
        torch.set_default_dtype(torch.bfloat16)
        try:
            return run(network, compute)
        finally:
            torch.set_default_dtype(torch.float32)

    return computed


def decibels(made, reference):
    """The range of the reference to the mean error."""
    made, reference = made.float(), reference.float()
    peak = reference.max() - reference.min()
    return float(10 * torch.log10(peak**2 / (made - reference).square().mean()))
