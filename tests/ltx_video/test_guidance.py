"""Which scales hold when, and what they do to a prediction."""

import pytest
import torch

from ltx_video.config import Guidance, load_config
from ltx_video.guidance import (
    attention_to_nothing,
    combine,
    fit_of,
    guidance_at,
    parts_mask,
)
from tests.tiny_ltx import CHANNELS

SCHEDULE = load_config("ltxv-13b-0.9.7-dev").first_pass.guidance
NONE = Guidance(from_level=0)


@pytest.mark.parametrize(
    ("level", "scale", "stg"),
    [(1.0, 1, 0), (0.994, 6, 4), (0.99, 8, 4), (0.95, 1, 2), (0.7, 1, 1), (0.1, 1, 1)],
)
def test_scales_change_with_the_noise_level(level, scale, stg):
    found = guidance_at(SCHEDULE, level, 8.0, usual=8.0)
    assert (found.guidance_scale, found.stg_scale) == (scale, stg)


def test_a_scale_of_the_request_takes_the_place_of_those_that_guide():
    assert guidance_at(SCHEDULE, 0.99, 5.0, usual=8.0).guidance_scale == 5.0
    assert guidance_at(SCHEDULE, 1.0, 5.0, usual=8.0).guidance_scale == 1.0


def test_without_a_schedule_the_requests_scale_holds():
    assert guidance_at((), 0.5, 3.0, usual=1.0).guidance_scale == 3.0


def test_predictions_are_combined_as_their_papers_say():
    prompted, unprompted, perturbed = torch.randn(3, 1, 4, 2)
    made = combine(
        Guidance(from_level=0, guidance_scale=3, stg_scale=2, stg_blocks=(0,)),
        prompted,
        unprompted,
        perturbed,
        cfg_star=False,
    )
    expected = unprompted + 3 * (prompted - unprompted) + 2 * (prompted - perturbed)
    torch.testing.assert_close(made, expected)
    assert torch.equal(combine(NONE, prompted, None, None, cfg_star=True), prompted)


def test_full_rescaling_gives_back_the_prompted_contrast():
    prompted, unprompted, perturbed = torch.randn(3, 1, 50, 8)
    guidance = Guidance(
        from_level=0, guidance_scale=5, rescale=0.999999, stg_scale=2, stg_blocks=(0,)
    )
    made = combine(guidance, prompted, unprompted, perturbed, cfg_star=False)
    torch.testing.assert_close(made.std(), prompted.std(), rtol=1e-3, atol=1e-3)
    without_stg = combine(guidance, prompted, unprompted, None, cfg_star=False)
    assert without_stg.std() > 2 * prompted.std()


def test_the_unprompted_prediction_is_fitted_to_the_prompted():
    prompted = torch.randn(1, 50, 8)
    torch.testing.assert_close(fit_of(2 * prompted, prompted), torch.tensor(0.5))


@torch.no_grad()
def test_perturbed_blocks_look_at_no_other_token_and_are_restored(model):
    transformer = model.pipeline.transformer
    before = [block.attn1.processor for block in transformer.transformer_blocks]

    def predict(changed: float) -> torch.Tensor:
        hidden = torch.zeros(1, 6, CHANNELS)
        hidden[0, 5] = changed
        return transformer(
            hidden_states=hidden,
            encoder_hidden_states=torch.ones(1, 2, 32),
            timestep=torch.tensor([[500.0]]),
            encoder_attention_mask=torch.ones(1, 2),
            video_coords=torch.arange(18.0).view(1, 3, 6),
            return_dict=False,
        )[0][0, :5]

    with attention_to_nothing(transformer, [0, 1]):
        assert torch.equal(predict(0.0), predict(3.0))
    assert not torch.equal(predict(0.0), predict(3.0))
    after = [block.attn1.processor for block in transformer.transformer_blocks]
    assert before == after


def test_each_frame_sees_the_words_of_its_part():
    mask = torch.tensor([[1, 1, 0, 1, 0, 0]])
    seconds = torch.tensor([0.0, 0.4, 0.6, 1.0])
    shown = parts_mask(mask, seconds, 1.0, parts=2)
    assert (shown[0] == 0).tolist() == [
        [True, True, False, False, False, False],
        [True, True, False, False, False, False],
        [False, False, False, True, False, False],
        [False, False, False, True, False, False],
    ]
    assert parts_mask(mask, seconds, 1.0, parts=1) is mask
