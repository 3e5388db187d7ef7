"""The training shows the transformer what diffusers' pipeline will show it."""

import torch
from diffusers import LTXConditionPipeline, LTXVideoTransformer3DModel

from demo import ltx_video
from demo.kind import Pin, Text


class Recorder(torch.nn.Module):
    """Notes what a transformer is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given = {}

    def forward(self, **given):
        self.given = given
        return (given["hidden_states"],)


def text() -> Text:
    return Text(torch.zeros(1, 4, 8), torch.ones(1, 4, dtype=torch.long))


def pipeline_coordinates(frame_index: int, pinned_frames: int) -> torch.Tensor:
    """What the pipeline makes of a pinned clip and a video of 3 × 2 × 2 latents."""
    ids = LTXConditionPipeline._scale_video_ids(
        LTXConditionPipeline._prepare_video_ids(1, pinned_frames, 2, 2),
        frame_index=frame_index,
    )
    own = LTXConditionPipeline._scale_video_ids(
        LTXConditionPipeline._prepare_video_ids(1, 3, 2, 2)
    )
    where = torch.cat([ids, own], 2).float()
    where[:, 0] /= ltx_video.FRAME_RATE
    return where


def test_pinned_frames_come_first_clean_and_with_their_time():
    recorder = Recorder()
    noisy, pinned = torch.randn(1, 6, 3, 2, 2), torch.randn(1, 6, 2, 2, 2)
    pin = Pin(pinned, torch.tensor([8]))
    made = ltx_video.velocity(recorder, noisy, torch.full((1, 1), 0.5), text(), pin)
    given = recorder.given
    assert torch.equal(made, noisy)
    assert torch.equal(given["video_coords"], pipeline_coordinates(8, 2))
    assert given["timestep"].tolist() == [[0.0] * 8 + [500.0] * 12]
    tokens = LTXConditionPipeline._pack_latents(pinned)
    assert torch.equal(given["hidden_states"][:, :8], tokens)


def test_given_first_frames_have_no_noise_level():
    recorder = Recorder()
    levels = torch.tensor([[0.0, 0.5, 0.5]])
    ltx_video.velocity(recorder, torch.randn(1, 6, 3, 2, 2), levels, text())
    assert recorder.given["timestep"].tolist() == [[0.0] * 4 + [500.0] * 8]


@torch.no_grad()
def test_masked_words_make_no_difference():
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=6,
        out_channels=6,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        num_layers=2,
        caption_channels=8,
    ).eval()
    noisy, levels = torch.randn(1, 6, 3, 2, 2), torch.full((1, 1), 0.5)
    states = torch.randn(1, 4, 8)
    short = Text(states, torch.ones(1, 4, dtype=torch.long))
    padded = Text(
        torch.cat([states, torch.randn(1, 28, 8)], 1),
        torch.cat([short.mask, torch.zeros(1, 28, dtype=torch.long)], 1),
    )
    torch.testing.assert_close(
        ltx_video.velocity(transformer, noisy, levels, short),
        ltx_video.velocity(transformer, noisy, levels, padded),
    )
