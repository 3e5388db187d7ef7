import numpy as np
import torch

from wan import FAMILY
from wan.preview import fit_preview, preview


class MeanVae:
    """Its latents hold each block's mean colour in three of 16 channels."""

    dtype = torch.float32

    class config:  # noqa: N801 - as diffusers calls it
        scale_factor_spatial = 8
        z_dim = 16
        latents_mean = [0.5] * 16
        latents_std = [2.0] * 16

    def encode(self, pictures):
        means = torch.nn.functional.avg_pool3d(pictures, (1, 8, 8))
        latents = torch.zeros(len(pictures), 16, *means.shape[2:])
        latents[:, [2, 5, 9]] = means
        self.mode = lambda: latents
        self.latent_dist = self
        return self


def test_colours_are_found_in_whichever_channels_they_are():
    factors = fit_preview(MeanVae())
    latents = torch.zeros(1, 16, 2, 4, 4)
    latents[:, [2, 5, 9], 1] = torch.tensor([0.8, -0.8, 0.0]).view(1, 3, 1, 1)
    frames = preview(factors, (latents - 0.5) / 2.0)
    assert frames.shape == (2, 4, 4, 3)
    assert np.abs(frames[0].astype(int) - 128).max() <= 3
    assert np.abs(frames[1].astype(int) - [229, 26, 128]).max() <= 3


def test_at_most_four_frames_from_first_to_last():
    factors = torch.zeros(17, 3)
    factors[0] = 1
    latents = torch.zeros(1, 16, 9, 2, 3)
    latents[0, 0] = torch.linspace(-1, 1, 9).view(9, 1, 1)
    frames = preview(factors, latents)
    assert frames[:, 0, 0, 0].tolist() == [0, 96, 159, 255]
    assert preview(factors, latents[:, :, :1]).shape == (1, 2, 3, 3)


def test_every_loaded_model_has_previews(model):
    frames = FAMILY.preview(model, torch.randn(1, 16, 5, 6, 8))
    assert frames.shape == (4, 6, 8, 3)
    assert frames.dtype == np.uint8
