import copy
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from peft import LoraConfig
from torch import nn

from engine.sampling.step_cache import Calls, forecasting, steps_forecast
from tests.tiny_wan import make_transformer

TIMES = [float(time) for time in range(1000, 0, -50)]


class Smooth(nn.Module):
    """A velocity that bends as much as it is told to."""

    def __init__(self, bend=0.0):
        super().__init__()
        self.bend = bend
        self.computed = []

    def forward(self, hidden_states, timestep, guided=False, return_dict=False):
        time = timestep.max() / 1000
        self.computed.append(float(time))
        sign = -1.0 if guided else 1.0
        level = sign * (1 + time) + self.bend * time**3
        velocity = level * torch.ones_like(hidden_states)
        if return_dict:
            return Transformer2DModelOutput(sample=velocity)
        return (velocity,)


def walk(pipeline, times=TIMES, **more):
    """What the transformer answers at each time."""
    latents = torch.zeros(1, 2, 3)
    return [
        pipeline.transformer(latents, torch.tensor([time]), **more)[0] for time in times
    ]


def pipeline_of(network):
    return SimpleNamespace(transformer=network)


def test_a_straight_way_is_forecast_and_stays_what_it_is():
    expected = walk(pipeline_of(Smooth()))
    pipeline = pipeline_of(Smooth())
    with steps_forecast(pipeline, 0.01) as calls:
        made = walk(pipeline)
    torch.testing.assert_close(torch.stack(made), torch.stack(expected))
    assert (calls.asked, calls.forecast) == (
        20,
        20 - len(pipeline.transformer.computed),
    )
    assert calls.forecast == 13  # three of four, after the first three
    assert pipeline.transformer.computed[:3] == pytest.approx([1.0, 0.95, 0.9])


def test_a_bend_is_computed_and_the_threshold_says_how_closely():
    expected = torch.stack(walk(pipeline_of(Smooth(bend=4))))
    errors, computed = [], []
    for threshold in (1e-9, 1e-4, 1e-3, 1e-2):
        pipeline = pipeline_of(Smooth(bend=4))
        with steps_forecast(pipeline, threshold):
            made = torch.stack(walk(pipeline))
        errors.append(float((made - expected).norm() / expected.norm()))
        computed.append(len(pipeline.transformer.computed))
    assert errors[0] == 0
    assert computed[0] == 20
    assert errors == sorted(errors)
    assert computed == sorted(computed, reverse=True)
    assert 0 < errors[-1] < 0.05
    assert computed[-1] < 12


def test_calls_with_and_without_guidance_are_kept_apart():
    pipeline = pipeline_of(Smooth())
    latents = torch.zeros(1, 2, 3)
    with steps_forecast(pipeline, 0.01) as calls:
        for time in TIMES:
            at = torch.tensor([time])
            plain = pipeline.transformer(latents, at)[0]
            guided = pipeline.transformer(latents, at, guided=True)[0]
            torch.testing.assert_close(guided, -plain)
    assert (calls.asked, calls.forecast) == (40, 26)


def test_a_new_window_or_another_size_begins_anew():
    pipeline = pipeline_of(Smooth())
    network = pipeline.transformer
    with steps_forecast(pipeline, 0.01):
        walk(pipeline)
        before = len(network.computed)
        walk(pipeline, TIMES[:3])
        assert len(network.computed) == before + 3
        for time in TIMES[3:6]:  # a second pass, larger and from where the first ended
            pipeline.transformer(torch.zeros(1, 9, 3), torch.tensor([time]))
        assert len(network.computed) == before + 6


def test_given_frames_at_time_0_do_not_hide_the_time():
    pipeline = pipeline_of(Smooth())
    with steps_forecast(pipeline, 0.01) as calls:
        for time in TIMES:
            pipeline.transformer(torch.zeros(1, 2, 3), torch.tensor([0.0, time]))
    assert calls.forecast == 13


def test_answers_keep_their_form_and_precision():
    pipeline = pipeline_of(Smooth())
    latents = torch.zeros(1, 2, 3, dtype=torch.bfloat16)
    with steps_forecast(pipeline, 0.5):
        for time in TIMES:
            at = torch.tensor([time])
            answer = pipeline.transformer(
                hidden_states=latents, timestep=at, return_dict=True
            )
            assert type(answer) is Transformer2DModelOutput
            assert answer.sample.dtype == torch.bfloat16


def test_nothing_is_left_behind_even_by_a_failure():
    pipeline = pipeline_of(Smooth())
    pipeline.transformer_2 = Smooth()
    replaced = pipeline.transformer_2.forward = copy.copy(
        pipeline.transformer_2.forward
    )
    before = dict(vars(pipeline.transformer))

    def fail():
        with steps_forecast(pipeline, 0.01):
            walk(pipeline, TIMES[:5])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert vars(pipeline.transformer) == before
    assert pipeline.transformer_2.forward is replaced  # another library's


def test_a_pipeline_without_a_transformer_is_left_alone():
    with steps_forecast(SimpleNamespace(), 0.1) as calls:
        pass
    assert calls == Calls()


def test_arguments_are_found_by_name_and_by_place():
    network = Smooth()
    called = forecasting(network.forward, 0.1, Calls())
    called(torch.zeros(1, 2), torch.tensor([900.0]))
    called(timestep=torch.tensor([800.0]), hidden_states=torch.zeros(1, 2))
    assert network.computed == pytest.approx([0.9, 0.8])


# torch's compiler imports its own deprecated parts.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("change", ["plain", "compiled", "lora"])
def test_a_real_transformer_is_the_same_afterwards(change):
    torch.manual_seed(0)
    transformer = make_transformer().eval()
    if change == "lora":
        config = LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False)
        transformer.add_adapter(config)
    if change == "compiled":
        for block in transformer.blocks:
            block.compile(backend="eager")
    latents = torch.randn(1, transformer.config.in_channels, 3, 6, 8)
    text = torch.randn(1, 16, transformer.config.text_dim)
    pipeline = pipeline_of(transformer)

    def velocities():
        with torch.no_grad():
            return torch.stack(
                walk(
                    SimpleNamespace(
                        transformer=lambda _, at, **more: transformer(
                            hidden_states=latents * at / 1000, timestep=at, **more
                        )
                    ),
                    TIMES[::2],
                    encoder_hidden_states=text,
                    return_dict=False,
                )
            )

    before = velocities()
    with steps_forecast(pipeline, 0.5) as calls:
        velocities()
    assert calls.forecast > 0
    assert torch.equal(velocities(), before)
