"""The training shows the transformer what diffusers' pipeline will show it."""

import pytest
import torch
from diffusers import HunyuanVideoPipeline
from torch.nn import functional as F

from demo import hyvideo
from demo.kind import Text
from demo.text import make_tokenizer


@pytest.fixture(scope="module")
def text_encoder():
    torch.manual_seed(0)
    return hyvideo.make_text_encoder(len(make_tokenizer(32))).eval()


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    return hyvideo.make_transformer().eval()


@torch.no_grad()
def test_prompts_are_embedded_as_the_pipeline_does(text_encoder, tmp_path):
    tokenizer = make_tokenizer(32)
    networks = {"transformer": hyvideo.make_transformer(), "vae": hyvideo.make_vae()}
    hyvideo.save_pipeline(tmp_path, tokenizer, text_encoder, networks)
    pipeline = HunyuanVideoPipeline.from_pretrained(tmp_path)
    prompt = "a red ball moving left on grass at day"
    states, pooled, mask = pipeline.encode_prompt(
        prompt, prompt_template={"template": "{}", "crop_start": 0}
    )
    read = tokenizer([prompt], padding="max_length", max_length=32, return_tensors="pt")
    ours = hyvideo.embed(text_encoder, read["input_ids"], read["attention_mask"])
    count = int(mask.sum())
    assert count == int(ours.mask.sum()) == 10
    torch.testing.assert_close(ours.states[:, :count], states[:, :count])
    torch.testing.assert_close(ours.pooled, pooled)


@torch.no_grad()
def test_masked_words_make_no_difference(transformer):
    noisy, levels = (
        torch.randn(1, hyvideo.LATENT_CHANNELS, 3, 8, 8),
        torch.full((1, 1), 0.5),
    )
    states, pooled = torch.randn(1, 4, 128), torch.randn(1, 128)
    short = Text(states, torch.ones(1, 4, dtype=torch.long), pooled)
    padded = Text(
        torch.cat([states, torch.randn(1, 28, 128)], 1),
        torch.cat([short.mask, torch.zeros(1, 28, dtype=torch.long)], 1),
        pooled,
    )
    torch.testing.assert_close(
        hyvideo.velocity(transformer, noisy, levels, short),
        hyvideo.velocity(transformer, noisy, levels, padded),
    )


@torch.no_grad()
def test_the_noise_level_is_that_of_the_frames_which_are_not_given(transformer):
    noisy = torch.randn(1, hyvideo.LATENT_CHANNELS, 3, 8, 8)
    text = Text(
        torch.randn(1, 4, 128), torch.ones(1, 4, dtype=torch.long), torch.randn(1, 128)
    )
    given = torch.tensor([[0.0, 0.5, 0.5]])
    torch.testing.assert_close(
        hyvideo.velocity(transformer, noisy, given, text),
        hyvideo.velocity(transformer, noisy, torch.full((1, 1), 0.5), text),
    )


@torch.no_grad()
def test_an_untrained_vae_passes_colours_on():
    torch.manual_seed(0)
    vae = hyvideo.make_vae()
    patches = torch.rand(2, 3, 1, 4, 4) * 2 - 1
    video = F.interpolate(patches, (5, 128, 128))
    rebuilt = hyvideo.decode(vae, hyvideo.encode(vae, video)[0])
    alike = [
        torch.corrcoef(torch.stack([wanted.flatten(), made.flatten()]))[0, 1]
        for wanted, made in zip(video.unbind(1), rebuilt.unbind(1), strict=True)
    ]
    assert sum(alike) / 3 > 0.5
