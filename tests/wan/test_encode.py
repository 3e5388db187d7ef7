import pytest
import torch

from wan import FAMILY


def test_embeddings_have_the_models_length_and_zeros_after_the_prompt(
    model, request_of
):
    embeds = FAMILY.encode(model, request_of(prompt="a red ball")).prompt_embeds
    length = model.variant.max_sequence_length
    assert embeds.shape == (1, length, 32)
    used = embeds[0].abs().sum(dim=1) > 0
    assert used.tolist() == [True] * 4 + [False] * (length - 4)  # 3 words and an end


def test_prompts_are_cleaned_as_upstream_does(model, request_of):
    clean = FAMILY.encode(model, request_of(prompt="a red ball & a cube"))
    messy = FAMILY.encode(
        model, request_of(prompt="  a red\n\tball &amp;amp; a   cube ")
    )
    assert torch.equal(clean.prompt_embeds, messy.prompt_embeds)


@pytest.mark.parametrize(("guidance_scale", "encoded"), [(1.0, False), (1.5, True)])
def test_a_negative_prompt_is_encoded_only_for_guidance(
    model, request_of, guidance_scale, encoded
):
    conditioning = FAMILY.encode(model, request_of(guidance_scale=guidance_scale))
    assert (conditioning.negative_prompt_embeds is not None) == encoded


def test_a_very_long_prompt_is_cut(model, request_of):
    embeds = FAMILY.encode(model, request_of(prompt="red " * 5000)).prompt_embeds
    assert embeds.shape == (1, model.variant.max_sequence_length, 32)
