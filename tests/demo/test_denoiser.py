import torch

from demo.denoiser import Batches, Denoiser, Latents
from demo.kind import get_kind
from demo.scenes import Scene
from demo.text import make_tokenizer


def test_motions_that_are_taken_for_one_another_are_drawn_twice_as_often():
    kind = get_kind("wan")
    motions = ["still", "spinning", "left", "bouncing"]
    scenes = [Scene("ball", "red", "grass", "day", motion) for motion in motions]
    # The latents of each scene are its number.
    numbers = torch.arange(4.0).view(-1, 1, 1, 1, 1).bfloat16()
    data = Latents({kind.SIZES[0]: numbers}, {}, scenes)
    tokenizer = make_tokenizer(kind.TEXT_LENGTH)
    denoiser = Denoiser(kind, torch.nn.Identity(), torch.nn.Identity(), tokenizer)
    torch.manual_seed(0)
    drawn = Batches(denoiser, data, 6000, seed=0).draw().latents.flatten().long()
    shares = drawn.bincount(minlength=4) / len(drawn)
    expected = torch.tensor([2, 2, 1, 1]) / 6
    torch.testing.assert_close(shares, expected, atol=0.02, rtol=0)
