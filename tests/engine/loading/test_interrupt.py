import gc
import time
import traceback

import numpy as np
import pytest
import torch

from engine.errors import Cancelled
from engine.generate import Generator
from engine.loading.interrupt import blocks_of, interruptible, networks_of
from engine.loading.weights import components_in
from engine.media.video import read_frames
from engine.validate import accept
from tests.tiny_wan import CHANNELS, write_tiny_wan
from wan import FAMILY
from wan.variants import VARIANTS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    write_tiny_wan(root / "ckpts" / "demo" / "wan")
    return root


@pytest.fixture
def pipeline(root):
    folder = root / "ckpts" / "demo" / "wan"
    return FAMILY.load(VARIANTS[0], components_in(folder), "float32", lambda name: None)


@pytest.fixture
def settings(settings, root):
    return settings.model_copy(update={"root": root})


@pytest.fixture
def request_(settings):
    data = {"model": "wan-demo", "prompt": "a red ball", "width": 64, "height": 64}
    data |= {"num_frames": 9, "num_inference_steps": 2, "seed": 3}
    return accept(data, folder=None, settings=settings)


class CancelInside:
    """Cancels at the n-th question after a phase began."""

    def __init__(self, phase, questions):
        self.phase, self.questions = phase, questions
        self.now = ""
        self.events = []

    def on_event(self, event):
        self.events.append(event)
        if event.event == "phase":
            self.now = event.phase

    def is_cancelled(self):
        if self.now == self.phase:
            self.questions -= 1
        return self.questions < 0


@pytest.mark.parametrize(
    ("phase", "questions", "inside"),
    [
        ("encode", 3, "modeling_umt5.py"),
        ("denoise", 4, "transformer_wan.py"),
        ("decode", 5, "autoencoder_kl_wan.py"),
    ],
)
def test_cancelling_acts_inside_a_network(
    settings, request_, tmp_path, phase, questions, inside
):
    generator = Generator(settings)
    cancel = CancelInside(phase, questions)
    before = generator.generate(request_, tmp_path / "before.mp4")
    with pytest.raises(Cancelled) as caught:
        generator.generate(
            request_,
            tmp_path / "never.mp4",
            on_event=cancel.on_event,
            is_cancelled=cancel.is_cancelled,
        )
    frames = traceback.extract_tb(caught.tb)
    assert any(frame.filename.endswith(inside) for frame in frames)
    steps = [event for event in cancel.events if event.event == "step"]
    assert all(step.phase != phase for step in steps)
    # No file is left, and the next job makes the same video as the one before.
    after = generator.generate(request_, tmp_path / "after.mp4")
    assert [p.name for p in sorted(tmp_path.iterdir()) if p.is_file()] == [
        "after.mp4",
        "before.mp4",
    ]
    for one, other in zip(read_frames(before), read_frames(after), strict=True):
        assert np.array_equal(one, other)


def test_a_cancelled_job_frees_what_it_computed(settings, request_, tmp_path):
    generator = Generator(settings)
    generator.generate(request_, tmp_path / "a.mp4")
    before = bytes_in_tensors()
    for phase in ("encode", "denoise", "decode"):
        cancel = CancelInside(phase, 6)
        with pytest.raises(Cancelled):
            generator.generate(
                request_,
                tmp_path / "b.mp4",
                on_event=cancel.on_event,
                is_cancelled=cancel.is_cancelled,
            )
        assert bytes_in_tensors() <= before + 64  # a timestep may stay behind


def bytes_in_tensors():
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
    return sum(tensor.nbytes for tensor in tensors)


def test_results_stay_the_same_to_the_bit(pipeline):
    tokens = torch.tensor([[3, 4, 5, 1]])
    latents = torch.randn(
        1, CHANNELS, 3, 8, 8, generator=torch.Generator().manual_seed(0)
    )

    @torch.no_grad()
    def compute():
        text = pipeline.text_encoder(tokens).last_hidden_state
        (noise,) = pipeline.transformer(
            latents, torch.tensor([500.0]), text, return_dict=False
        )
        return text, noise, pipeline.vae.decode(latents).sample

    asked = []
    plain = compute()
    with interruptible(pipeline, lambda: asked.append(time.monotonic())):
        checked = compute()
    assert len(asked) > 50
    for one, other in zip(plain, checked, strict=True):
        assert torch.equal(one, other)


def test_the_hooks_are_gone_afterwards(pipeline):
    def hooks():
        modules = [m for network in networks_of(pipeline) for m in network.modules()]
        return sum(len(module._forward_pre_hooks) for module in modules)

    assert len(networks_of(pipeline)) == 3
    before = hooks()
    with pytest.raises(Cancelled), interruptible(pipeline, lambda: None):
        assert hooks() > before + 20
        raise Cancelled("stop")
    assert hooks() == before


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own
def test_compiled_blocks_are_left_alone(pipeline):
    every = set(blocks_of(pipeline.transformer))
    assert pipeline.transformer.blocks[1].attn1 in every
    pipeline.transformer.blocks[1].compile()
    left = set(blocks_of(pipeline.transformer))
    assert pipeline.transformer.blocks[0].attn1 in left
    assert every - left == {
        module for module in pipeline.transformer.blocks[1].modules() if module in every
    }


def test_a_pipeline_without_networks_is_left_alone():
    with interruptible({"loaded_at": 3.0}, lambda: None):
        pass
