import inspect
from copy import deepcopy

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from engine.errors import Cancelled
from engine.sampling.reporting import reporting

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
MAKERS = {
    "euler": lambda: FlowMatchEulerDiscreteScheduler(shift=5.0),
    "unipc": lambda: UniPCMultistepScheduler(flow_shift=5.0, **FLOW),
    "dpm++": lambda: DPMSolverMultistepScheduler(flow_shift=5.0, **FLOW),
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def curved(sample, t):
    return torch.sin(3 * sample) * (0.2 + t / 1000)


def run(scheduler, velocity, noise, steps=5):
    scheduler.set_timesteps(steps)
    sample = noise
    for t in scheduler.timesteps:
        sample = scheduler.step(velocity(sample, t), t, sample, return_dict=False)[0]
    return sample


@pytest.fixture
def noise():
    return torch.randn(1, 4, 3, 6, 8, generator=torch.Generator().manual_seed(0))


def test_results_are_those_of_the_scheduler_bit_for_bit(make, noise):
    made = reporting(make(), lambda done, total, end: None)
    assert torch.equal(run(made, curved, noise), run(make(), curved, noise))


def test_each_step_is_told_again_from_one_in_each_run(make, noise):
    told = []
    made = reporting(make(), lambda done, total, end: told.append((done, total)))
    run(made, curved, noise, steps=3)
    run(made, curved, noise, steps=2)
    assert told == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]


def test_the_expected_end_is_exact_where_the_path_is_straight(make, noise):
    told = []
    end = torch.full_like(noise, 0.5)
    made = reporting(make(), lambda done, total, seen: told.append(seen))
    made.set_timesteps(5)
    # UniPC and DPM++ begin a little below full noise.
    begin = end + made.sigmas[0] * (noise - end)
    run(made, lambda sample, t: noise - end, begin)
    assert len(told) == 5
    assert all(torch.allclose(seen, end, atol=1e-5) for seen in told)


def test_the_last_expected_end_is_the_result(make, noise):
    told = []
    made = reporting(make(), lambda done, total, seen: told.append(seen))
    assert torch.allclose(run(made, curved, noise), told[-1], atol=1e-5)


def test_what_is_raised_ends_the_run_within_the_step(make, noise):
    steps = []

    def cancel(done, total, end):
        steps.append(done)
        if done == 2:
            raise Cancelled("stop")

    made = reporting(make(), cancel)
    with pytest.raises(Cancelled):
        run(made, curved, noise)
    assert steps == [1, 2]
    steps[:] = [0]  # a run after it counts anew
    with pytest.raises(Cancelled):
        run(made, curved, noise)
    assert steps == [0, 1, 2]


def test_a_copy_counts_for_itself_and_tells_the_same_listener(make, noise):
    class Listener:
        def __init__(self):
            self.told = []

        def hear(self, done, total, end):
            self.told.append(done)

    listener = Listener()
    made = reporting(make(), listener.hear)
    second = deepcopy(made)
    run(made, curved, noise, steps=2)
    run(second, curved, noise, steps=3)
    assert listener.told == [1, 2, 1, 2, 3]


def test_the_given_scheduler_is_left_as_it_is(make, noise):
    plain = make()
    reporting(plain, lambda done, total, end: pytest.fail("it was told"))
    run(plain, curved, noise)


def test_it_is_still_of_its_kind_and_sets_timesteps_with_the_same_arguments(make):
    """diffusers' pipelines look at its signature."""
    plain, made = make(), reporting(make(), lambda done, total, end: None)
    assert isinstance(made, type(plain))
    assert made.config == plain.config
    wanted = inspect.signature(plain.set_timesteps)
    assert inspect.signature(made.set_timesteps) == wanted
