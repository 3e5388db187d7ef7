import numpy as np
import torch
from diffusers import AutoencoderKLWan

from demo.clips import sample_clips
from demo.codec import to_model
from demo.render import render
from demo.scenes import Scene
from demo.wan import latent_scale
from engine.settings import PROJECT
from wan import FAMILY
from wan.preview import fit_preview, preview

SHIPPED_VAE = PROJECT / "ckpts" / "demo" / "wan" / "vae"


class MeanVae:
    """Its latents hold each block's mean colour in three of 16 channels: in others for
    the first frame than for those after it."""

    dtype = torch.float32

    class config:  # noqa: N801 - as diffusers calls it
        scale_factor_spatial = 8
        z_dim = 16
        latents_mean = [0.5] * 16
        latents_std = [2.0] * 16

    def encode(self, clips):
        latents = torch.zeros(len(clips), 16, 3, 8, 8)
        pool = torch.nn.functional.avg_pool3d
        latents[:, [2, 5, 9], :1] = pool(clips[:, :, :1], (1, 8, 8))
        latents[:, [11, 3, 2], 1:] = pool(clips[:, :, 1:], (4, 8, 8))
        self.mode = lambda: latents
        self.latent_dist = self
        return self


def test_colours_are_found_in_whichever_channels_they_are():
    factors = fit_preview(MeanVae())
    latents = torch.zeros(1, 16, 2, 4, 4)
    colour = torch.tensor([0.8, -0.8, 0.0]).view(1, 3, 1, 1)
    latents[:, [2, 5, 9], 0] = colour
    latents[:, [11, 3, 2], 1] = -colour
    frames = preview(factors, (latents - 0.5) / 2.0)
    assert frames.shape == (2, 4, 4, 3)
    assert np.abs(frames[0].astype(int) - [229, 26, 128]).max() <= 3
    assert np.abs(frames[1].astype(int) - [26, 229, 128]).max() <= 3


@torch.no_grad()
def test_previews_of_the_shipped_model_have_the_videos_colours():
    vae = AutoencoderKLWan.from_pretrained(SHIPPED_VAE, dtype=torch.float32)
    scene = Scene("ball", "red", "grass", "sunset", "left")
    drawn = sample_clips([scene], 9, torch.Generator().manual_seed(0))
    video = render(drawn, 128, 128, samples=1)
    latents = vae.encode(to_model(video)).latent_dist.mode()
    mean, deviation = latent_scale(vae)
    small = preview(fit_preview(vae), (latents - mean) / deviation)
    shrunk = torch.nn.functional.interpolate(
        video[0, [0, 2, 6]].permute(0, 3, 1, 2).float(), small.shape[1:3], mode="area"
    )
    difference = np.abs(small - shrunk.permute(0, 2, 3, 1).numpy())
    assert difference.mean((1, 2, 3)).max() < 15


def test_at_most_four_frames_from_first_to_last():
    factors = torch.zeros(2, 17, 3)
    factors[:, 0] = 1
    latents = torch.zeros(1, 16, 9, 2, 3)
    latents[0, 0] = torch.linspace(-1, 1, 9).view(9, 1, 1)
    frames = preview(factors, latents)
    assert frames[:, 0, 0, 0].tolist() == [0, 96, 159, 255]
    assert preview(factors, latents[:, :, :1]).shape == (1, 2, 3, 3)


def test_every_loaded_model_has_previews(model):
    frames = FAMILY.preview(model, torch.randn(1, 16, 5, 6, 8))
    assert frames.shape == (4, 6, 8, 3)
    assert frames.dtype == np.uint8
