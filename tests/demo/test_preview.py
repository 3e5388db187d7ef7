import numpy as np
import pytest
import torch
from torch.nn import functional as F

from demo.clips import sample_clips
from demo.codec import to_model
from demo.kind import KINDS, get_kind
from demo.render import render
from demo.scenes import Scene
from engine.sampling.preview import linear_preview, load_factors
from engine.settings import PROJECT

SHIPPED = [kind for kind in KINDS if (PROJECT / "ckpts" / "demo" / kind).is_dir()]


@torch.no_grad()
@pytest.mark.parametrize("family", SHIPPED)
def test_previews_of_the_shipped_models_have_the_videos_colours(family):
    kind = get_kind(family)
    folder = PROJECT / "ckpts" / "demo" / family / "vae"
    vae = type(kind.make_vae()).from_pretrained(folder, dtype=torch.float32)
    scene = Scene("ball", "red", "grass", "sunset", "left")
    drawn = sample_clips([scene], 17, torch.Generator().manual_seed(5))
    video = render(drawn, 128, 128, samples=1)
    latents = kind.encode(vae, to_model(video))[0]
    mean, deviation = kind.latent_scale(vae)
    factors = load_factors(PROJECT / family / "previews", "demo")
    small = linear_preview(factors, (latents - mean) / deviation)
    frames = video[0, np.linspace(0, 16, len(small)).astype(int)]
    shrunk = F.interpolate(
        frames.permute(0, 3, 1, 2).float(), small.shape[1:3], mode="area"
    )
    difference = np.abs(small - shrunk.permute(0, 2, 3, 1).numpy())
    assert difference.mean((1, 2, 3)).max() < 18
