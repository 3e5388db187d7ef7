"""Training compiles few forms of each block: each costs a minute, and beyond eight
none is compiled any more."""

import random

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from demo import denoiser
from demo.adapt import Student, flow_loss
from demo.denoiser import Batch, Denoiser
from demo.kind import Pin, Text, get_kind
from demo.pairs import Pairs
from demo.task import TASKS, get_task
from demo.text import make_tokenizer

SHAPES = {"wan": (48, 3, 4, 4), "ltx_video": (128, 3, 4, 4), "hyvideo": (8, 3, 8, 8)}
FORMS = {
    "wan": 1,
    # One noise level for all tokens, or one each.
    "ltx_video": 2,
    # Blocks of two streams, and of one; the first of these gets its tokens whole.
    "hyvideo": 3,
}
TASK_FORMS = {
    "wan_i2v": 1,
    # The base's blocks before and after the first that is added to, the first of those
    # that add and the others, each with a reference image and without.
    "wan_vace": 8,
}


@pytest.fixture(params=SHAPES)
def compiled(request):
    torch._dynamo.reset()
    torch.manual_seed(0)
    kind, tokenizer = get_kind(request.param), make_tokenizer(32)
    encoder = kind.make_text_encoder(len(tokenizer))
    model = Denoiser(kind, encoder, kind.make_transformer(), tokenizer)
    counter = CompileCounter()
    model.transformer.compile_repeated_blocks(dynamic=kind.FLEXIBLE, backend=counter)
    yield request.param, model, counter
    torch._dynamo.reset()


# The compiler looks at tensors in ways that warn, and counting runs each operation
# alone, in half precision with whole weights.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_blocks_are_compiled_for_few_forms(compiled):
    name, model, counter = compiled
    ids, mask = model.tokens(["a red ball", "a blue cube moving left on grass"])

    def step(first: int = 0, pin: Pin | None = None) -> None:
        latents = torch.randn(2, *SHAPES[name])
        batch = Batch(latents, ids, mask, first, pin)
        denoiser.flow_loss(model, batch, None).backward()

    step()
    for first in model.kind.GIVEN.counts if model.kind.GIVEN.first else ():
        step(first)
    if model.kind.GIVEN.others:
        shown = torch.randn(2, *SHAPES[name])[:, :, :1]
        step(1, Pin(shown, torch.tensor([8, 8])))
    assert counter.frame_count == FORMS[name]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_compiled_for_few_forms(name):
    torch._dynamo.reset()
    task = get_task(name)
    base = get_kind(task.BASE).make_transformer()
    student = Student(task, task.make_transformer(base), None)
    counter = CompileCounter()
    student.model.compile_repeated_blocks(dynamic=False, backend=counter)
    shape, text = (2, *SHAPES[task.BASE]), torch.randn(2, 4, 128)
    for way in task.WAYS:
        clips = torch.zeros(2, 9, 64, 64, 3, dtype=torch.uint8)
        shown = task.show(lambda _: torch.zeros(shape), way, clips, random.Random(0))
        condition = shown.condition
        latents = torch.zeros(2, shape[1], *condition.shape[2:])
        pairs = Pairs(latents, shown, [])
        flow_loss(student, Text(text, torch.ones(2, 4)), pairs).backward()
    assert counter.frame_count == TASK_FORMS[name]
    torch._dynamo.reset()
