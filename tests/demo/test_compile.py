"""Training compiles few forms of each block: each costs a minute, and beyond eight
none is compiled any more."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from demo.denoiser import Batch, Denoiser, flow_loss
from demo.kind import Pin, get_kind
from demo.text import make_tokenizer

SHAPES = {"wan": (48, 3, 4, 4), "ltx_video": (128, 3, 4, 4), "hyvideo": (16, 3, 8, 8)}
FORMS = {
    "wan": 1,
    # One noise level for all tokens, or one each.
    "ltx_video": 2,
    # Blocks of two streams, and of one; the first of these gets its tokens whole.
    "hyvideo": 3,
}


@pytest.fixture(params=SHAPES)
def compiled(request):
    torch._dynamo.reset()
    torch.manual_seed(0)
    kind, tokenizer = get_kind(request.param), make_tokenizer(32)
    encoder = kind.make_text_encoder(len(tokenizer))
    denoiser = Denoiser(kind, encoder, kind.make_transformer(), tokenizer)
    counter = CompileCounter()
    denoiser.transformer.compile_repeated_blocks(dynamic=kind.FLEXIBLE, backend=counter)
    yield request.param, denoiser, counter
    torch._dynamo.reset()


# The compiler looks at tensors in ways that warn, and counting runs each operation
# alone, in half precision with whole weights.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_blocks_are_compiled_for_few_forms(compiled):
    name, denoiser, counter = compiled
    ids, mask = denoiser.tokens(["a red ball", "a blue cube moving left on grass"])

    def step(first: int = 0, pin: Pin | None = None) -> None:
        latents = torch.randn(2, *SHAPES[name])
        flow_loss(denoiser, Batch(latents, ids, mask, first, pin), None).backward()

    step()
    for first in denoiser.kind.GIVEN.counts if denoiser.kind.GIVEN.first else ():
        step(first)
    if denoiser.kind.GIVEN.others:
        shown = torch.randn(2, *SHAPES[name])[:, :, :1]
        step(1, Pin(shown, torch.tensor([8, 8])))
    assert counter.frame_count == FORMS[name]
