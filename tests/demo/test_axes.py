"""Latents are turned so that axes count by what they show."""

import torch

from demo.axes import moments, pixel_axes


def clips(count=4):
    """Three independent sources of light, of deviations 1, 1 and 1."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, 5, 16, 16, generator=generator) for _ in range(count)]


SHOWN = torch.tensor([1.0, 10.0, 0.1])
"""How much a decoded picture shows of each source."""
MIXED = torch.tensor([[1.0, 2.0, 0.5], [0.3, -1.0, 2.0], [4.0, 0.2, 1.0]])


def encode(clip):
    return torch.einsum("oi,ni...->no...", MIXED, clip) + 7.0


def decode(latents):
    sources = torch.einsum("oi,ni...->no...", MIXED.inverse(), latents - 7.0)
    return sources * SHOWN.view(1, 3, 1, 1, 1)


def turned(axes, latents):
    centred = latents - axes.mean.view(1, -1, 1, 1, 1)
    return torch.einsum("oi,ni...->no...", axes.turn, centred)


def test_axes_are_the_independent_sources_by_how_much_they_show():
    axes = pixel_axes(encode, decode, clips())
    seen = turned(axes, torch.cat([encode(clip) for clip in clips()]))
    sources = torch.cat(clips())
    flat = torch.cat([seen, sources], 1).transpose(0, 1).flatten(1)
    likeness = torch.corrcoef(flat)[:3, 3:].abs()
    # Shown most is the second, least the third.
    assert likeness.argmax(1).tolist() == [1, 0, 2]
    assert likeness.amax(1).min() > 0.95


def test_their_deviation_is_the_root_of_how_much_they_show():
    axes = pixel_axes(encode, decode, clips())
    mean, deviation = moments(lambda clip: turned(axes, encode(clip)), clips())
    torch.testing.assert_close(mean, torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(deviation.pow(2).mean(), torch.tensor(1.0))
    wanted = SHOWN.sort(descending=True).values.sqrt()
    torch.testing.assert_close(
        deviation / deviation[1], wanted / wanted[1], atol=0, rtol=0.15
    )


def test_moments_are_those_of_each_channel():
    mean, deviation = moments(lambda clip: clip * 2 + 3, clips())
    torch.testing.assert_close(mean, torch.full((3,), 3.0), atol=0.1, rtol=0)
    torch.testing.assert_close(deviation, torch.full((3,), 2.0), atol=0.1, rtol=0)
