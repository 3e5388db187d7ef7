"""What a job's LoRAs leave behind: nothing."""

from types import SimpleNamespace

import pytest
import torch

from engine.errors import Cancelled, UnreadableFile, UserError
from engine.family import LoadedModel, get_variant
from engine.lora.apply import loras_applied, schedule_of
from engine.progress import Progress
from engine.request import GenerationRequest
from engine.sampling.phases import announce_phases
from engine.settings import Settings
from tests.engine.lora.formats import KOHYA, written
from tests.engine.lora.networks import ltx, make_lora, run, wan


@pytest.fixture
def model():
    network, compute = wan()
    return SimpleNamespace(
        network=network,
        compute=compute,
        changes=make_lora(network),
        state={name: t.clone() for name, t in network.state_dict().items()},
        modules=dict(network.named_modules()),
        plain=run(network, compute),
        classes={name: type(m) for name, m in network.named_modules()},
    )


def check_untouched(model):
    state = model.network.state_dict()
    assert state.keys() == model.state.keys()
    assert all(torch.equal(state[name], model.state[name]) for name in state)
    modules = dict(model.network.named_modules())
    assert modules.keys() == model.modules.keys()
    assert all(modules[name] is model.modules[name] for name in modules)
    assert all(type(modules[name]) is kind for name, kind in model.classes.items())
    assert torch.equal(run(model.network, model.compute), model.plain)


def everything(model):
    norms = {
        f"{name.removesuffix('.weight')}.diff": torch.full_like(parameter, 0.1)
        for name, parameter in model.network.named_parameters()
        if "norm_" in name
    }
    return written(model.changes, "") | norms


def test_nothing_is_left_after_a_job(model, put_on):
    with put_on(model.network, "wan-demo", (everything(model), 1.0)):
        assert not torch.equal(run(model.network, model.compute), model.plain)
    check_untouched(model)


@pytest.mark.parametrize("error", [Cancelled("x"), ValueError("x"), MemoryError()])
def test_nothing_is_left_after_a_failure(model, put_on, error):
    with (
        pytest.raises(type(error)),
        put_on(model.network, "wan-demo", (everything(model), 1.0)),
    ):
        raise error
    check_untouched(model)


def test_nothing_is_left_when_the_second_file_is_bad(model, put_on):
    broken = written(model.changes, "")
    name = next(iter(broken))
    broken[name] = torch.full_like(broken[name], torch.nan)
    with (
        pytest.raises(UnreadableFile, match=r"lora1\.safetensors .* no numbers"),
        put_on(model.network, "wan-demo", (everything(model), 1.0), (broken, 1.0)),
    ):
        pass
    check_untouched(model)


def test_multiplier_0_is_bit_equal_to_none(model, put_on):
    loras = [(everything(model), 0.0), (everything(model), "0;0")]
    with put_on(model.network, "wan-demo", *loras):
        assert torch.equal(run(model.network, model.compute), model.plain)
    loras = [(everything(model), "0,1")]
    with put_on(model.network, "wan-demo", *loras):
        assert torch.equal(run(model.network, model.compute), model.plain)


def test_a_disabled_one_is_not_even_read(model, tmp_path):
    off = {"name": "gone.safetensors", "enabled": False}
    request = GenerationRequest(model="wan-demo", prompt="x", loras=[off])
    loaded = LoadedModel(
        get_variant("wan-demo"), SimpleNamespace(transformer=model.network)
    )
    progress = Progress("job", lambda event: None)
    with loras_applied(loaded, request, Settings(root=tmp_path), progress):
        assert torch.equal(run(model.network, model.compute), model.plain)


def test_multipliers_follow_the_steps(model, put_on):
    tensors = everything(model)
    found = {}
    for value in (0.0, 0.5, 1.0):
        with put_on(model.network, "wan-demo", (tensors, value)):
            found[value] = run(model.network, model.compute)
    seen, told = [], []
    with put_on(model.network, "wan-demo", (tensors, "1,0.5;0")) as given:
        on_step = given.follow(lambda *step: told.append(step))
        for done in range(1, 5):
            seen.append(run(model.network, model.compute))
            on_step(done, 4, None)
    wanted = [found[1.0], found[0.5], found[0.0], found[0.0]]
    assert all(torch.equal(*pair) for pair in zip(seen, wanted, strict=True))
    assert told == [(done, 4, None) for done in range(1, 5)]


def test_phases_are_those_that_are_announced(put_on):
    network, compute = ltx()
    tensors = written(make_lora(network), "")
    plain = run(network, compute)
    acts = []
    with put_on(network, "ltxv-13b-0.9.7-distilled", (tensors, "0;1")) as given:
        announce_phases(3, 1)
        on_step = given.follow(lambda *_: None)
        for done in range(1, 5):
            acts.append(not torch.equal(run(network, compute), plain))
            on_step(done, 4, None)
    assert acts == [False, False, False, True]


def test_each_window_of_a_long_video_has_its_multipliers(model, put_on):
    acts = []
    with put_on(model.network, "wan-demo", (everything(model), "0|0,1|0")) as given:
        on_step = given.follow(lambda *_: None)
        for done in range(1, 17):  # four windows of four steps
            acts.append(not torch.equal(run(model.network, model.compute), model.plain))
            on_step(done, 16, None)
    assert acts == [False] * 6 + [True] * 2 + [False] * 8


def test_more_steps_than_asked_for_are_covered_once(model, put_on):
    acts = []
    with put_on(model.network, "wan-demo", (everything(model), "0,1")) as given:
        on_step = given.follow(lambda *_: None)
        for done in range(1, 7):
            on_step(done, 6, None)
            acts.append(not torch.equal(run(model.network, model.compute), model.plain))
    assert acts[1:5] == [False, True, True, True]


def test_stacked_loras_add_up_in_any_order(model, put_on):
    changes = model.changes
    one = written(dict(list(changes.items())[::2]), "")
    other = written(dict(list(changes.items())[1::2]), "", KOHYA, alpha=1.0)
    results = []
    for loras in ([(one, 1.0), (other, 0.5)], [(other, 0.5), (one, 1.0)]):
        with put_on(model.network, "wan-demo", *loras):
            results.append(run(model.network, model.compute))
    assert torch.equal(*results)
    check_untouched(model)


def test_forty_loras_work_and_leave_nothing(model, put_on):
    tensors = written(model.changes, "")
    with put_on(model.network, "wan-demo", *[(tensors, 0.025)] * 40):
        result = run(model.network, model.compute)
    with put_on(model.network, "wan-demo", (tensors, 1.0)):
        once = run(model.network, model.compute)
    assert float((result - once).abs().max()) < 1e-4
    check_untouched(model)


def test_ranks_that_differ_are_refused(model, put_on):
    tensors = {
        name: tensor[:3] if "lora_A" in name else tensor
        for name, tensor in written(model.changes, "").items()
    }
    with (
        pytest.raises(UserError, match="ranks differ: down has 3, up has 4"),
        put_on(model.network, "wan-demo", (tensors, 1.0)),
    ):
        pass
    check_untouched(model)


def test_another_size_is_refused_with_the_sizes(model, put_on):
    tensors = {
        name: torch.cat([tensor, tensor], 1) if "lora_A" in name else tensor
        for name, tensor in written(model.changes, "").items()
    }
    with (
        pytest.raises(UserError, match="it changes 24×48 where the model has 24×24"),
        put_on(model.network, "wan-demo", (tensors, 1.0)),
    ):
        pass


class Pair:
    """Two transformers that take turns."""

    def __init__(self):
        self.first, self.compute = wan()
        self.second, _ = wan()
        self.plain = run(self.first, self.compute)
        self.tensors = written(make_lora(self.first), "diffusion_model.")

    def acting(self):
        return [
            not torch.equal(run(network, self.compute), self.plain)
            for network in (self.first, self.second)
        ]


@pytest.mark.parametrize(
    ("multiplier", "acting"),
    [("1;0", [[True, False]] * 2), ("0;1", [[False, False], [False, True]])],
)
def test_each_of_two_transformers_has_its_phase(put_on, multiplier, acting):
    pair, seen = Pair(), []
    loras = [(pair.tensors, multiplier)]
    with put_on(
        pair.first, "wan2.2-t2v-a14b", *loras, transformer_2=pair.second
    ) as given:
        announce_phases(1, 3)
        on_step = given.follow(lambda *_: None)
        seen.append(pair.acting())
        on_step(1, 4, None)
        seen.append(pair.acting())
    assert seen[1][1] == acting[1][1]
    assert seen[0] == acting[0]
    assert pair.acting() == [False, False]


def test_a_file_may_say_which_transformer_it_is_for(put_on):
    pair = Pair()
    second = {
        name.replace("diffusion_model.", "transformer_2."): tensor
        for name, tensor in pair.tensors.items()
    }
    with put_on(
        pair.first, "wan2.2-t2v-a14b", (second, 1.0), transformer_2=pair.second
    ) as given:
        assert pair.acting() == [False, True]
    assert given.warnings == []


@pytest.mark.parametrize(
    ("name", "phases"),
    [
        ("style_high_noise.safetensors", ((1.0,), (0.0,))),
        ("Wan2.2-LOW.safetensors", ((0.0,), (1.0,))),
        ("pair/wan22_lownoise_v2.safetensors", ((0.0,), (1.0,))),
        ("style-HN.safetensors", ((1.0,), (0.0,))),
        ("style_LN_v3.safetensors", ((0.0,), (1.0,))),
        ("Lightning-4steps-lora_HIGH_fp16.safetensors", ((1.0,), (0.0,))),
        ("style_low_000002500.safetensors", ((0.0,), (1.0,))),
        ("high_angle_shot.safetensors", ((1.0,),)),
        ("low-light.safetensors", ((1.0,),)),
        ("high_res.safetensors", ((1.0,),)),
        ("highlights.safetensors", ((1.0,),)),
        ("flow.safetensors", ((1.0,),)),
    ],
)
def test_the_name_of_a_pairs_file_says_its_phase(name, phases):
    assert schedule_of(name, 1.0, 2).phases == phases
    assert schedule_of(name, 1.0, 1).phases == ((1.0,),)
    assert schedule_of(name, "1;1", 2).phases == ((1.0,), (1.0,))
    later = schedule_of(name, "1|1", 2).later
    assert [each.phases for each in later] == [phases]


def test_a_cancel_acts_while_files_are_read(model, tmp_path):
    from safetensors.torch import save_file

    folder = tmp_path / "loras" / "wan"
    folder.mkdir(parents=True)
    save_file(written(model.changes, ""), folder / "a.safetensors")
    calls = iter(range(100))
    progress = Progress("job", is_cancelled=lambda: next(calls) > 5)
    request = GenerationRequest.model_validate(
        {
            "model": "wan-demo",
            "prompt": "x",
            "num_inference_steps": 2,
            "loras": [{"name": "a.safetensors"}],
        }
    )
    loaded = LoadedModel(
        get_variant("wan-demo"), SimpleNamespace(transformer=model.network)
    )
    settings = Settings(root=tmp_path)
    with pytest.raises(Cancelled), loras_applied(loaded, request, settings, progress):
        pass
    check_untouched(model)
