import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engine.family import FAMILIES, all_variants
from engine.sampling.preview import (
    fit_factors,
    linear_preview,
    load_factors,
    save_factors,
)
from engine.settings import PROJECT

CHANNELS = {
    "demo/wan": 48,
    "demo/ltx_video": 128,
    "demo/hyvideo": 8,
    "wan2.1": 16,
    "wan2.2": 48,
    "ltxv": 128,
    "hunyuan-video": 16,
    "hunyuan-video-1.5": 32,
}


def latents_of(clips: torch.Tensor) -> torch.Tensor:
    """Each block's mean colour in three of 16 channels: in others for the first frame
    than for those after it."""
    latents = torch.zeros(len(clips), 16, 3, 8, 8)
    latents[:, [2, 5, 9], :1] = F.avg_pool3d(clips[:, :, :1], (1, 8, 8))
    latents[:, [11, 3, 2], 1:] = F.avg_pool3d(clips[:, :, 1:], (4, 8, 8))
    return latents / 2 + 0.5


def test_colours_are_found_in_whichever_channels_they_are(tmp_path):
    clips = torch.rand(6, 3, 9, 64, 64, generator=torch.manual_seed(0)) * 2 - 1
    clips = F.interpolate(F.avg_pool3d(clips, (3, 16, 16)) * 9, clips.shape[2:])
    first = F.avg_pool3d(clips[:, :, :1], (1, 8, 8))
    rest = F.avg_pool3d(clips[:, :, 1:], (4, 8, 8))
    colours = torch.cat([first, rest], dim=2)
    save_factors(tmp_path / "new.json", fit_factors(latents_of(clips), colours), "a")
    factors = load_factors(tmp_path, "new")
    frames = linear_preview(factors, latents_of(clips)[:1])
    wanted = ((colours[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1) * 255).numpy()
    assert np.abs(frames - wanted).max() <= 3


def test_one_set_of_factors_serves_all_frames(tmp_path):
    rows = "[1, 0, 0], [0, 1, 0], [0, 0, 0.5]"
    (tmp_path / "same.json").write_text(f'{{"source": "here", "rest": [{rows}]}}')
    latents = torch.ones(1, 2, 2, 1, 1)
    frames = linear_preview(load_factors(tmp_path, "same"), latents)
    assert frames[:, 0, 0].tolist() == [[255, 255, 191]] * 2


def test_at_most_four_frames_from_first_to_last():
    factors = torch.zeros(2, 17, 3)
    factors[:, 0] = 1
    latents = torch.zeros(1, 16, 9, 2, 3)
    latents[0, 0] = torch.linspace(-1, 1, 9).view(9, 1, 1)
    frames = linear_preview(factors, latents)
    assert frames[:, 0, 0, 0].tolist() == [0, 96, 159, 255]
    assert linear_preview(factors, latents[:, :, :1]).shape == (1, 2, 3, 3)


@pytest.mark.parametrize("variant", all_variants().values(), ids=lambda row: row.id)
def test_every_model_names_factors_for_its_vae(variant):
    if variant.family not in FAMILIES:
        pytest.skip("a family of another test")
    name = variant.preview
    factors = load_factors(PROJECT / variant.family / "previews", name)
    folder = variant.base_folder or variant.folder
    channels = CHANNELS[folder if name == "demo" else name]
    assert factors.shape == (2, channels + 1, 3)
