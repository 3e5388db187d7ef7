import pytest
import torch

from hyvideo import FAMILY
from hyvideo.encode import cfg_scale
from tests.tiny_hyvideo import WIDTH, make_tokenizer

EMBEDDED = "hunyuan-video-t2v"


@pytest.fixture
def demo(load):
    return load("hyvideo-demo")


def test_embeddings_are_as_long_as_the_prompt(demo, request_of):
    text = FAMILY.encode(demo, request_of(prompt="a red ball")).text
    assert text.embeds.shape == (1, 4, WIDTH)  # a start and three words
    assert text.pooled.shape == (1, 16)
    assert text.mask.tolist() == [[1, 1, 1, 1]]


def test_a_very_long_prompt_is_cut(demo, request_of):
    text = FAMILY.encode(demo, request_of(prompt="red " * 5000)).text
    assert text.embeds.shape == (1, demo.variant.max_sequence_length, WIDTH)


def test_the_words_around_a_prompt_are_cut_off(load, request_of):
    """But change how the language model understands it."""
    model = load(EMBEDDED)
    pipeline = model.pipeline
    text = FAMILY.encode(model, request_of(model=EMBEDDED, prompt="a red ball")).text
    padded, _, mask = pipeline.encode_prompt("a red ball")
    assert mask.sum() == 4  # three words and the mark of their end
    assert text.embeds.shape == (1, 4, WIDTH)
    assert torch.equal(text.embeds, padded[:, :4])
    assert padded.shape[1] == model.variant.max_sequence_length


def test_no_words_are_at_least_one_token(load, request_of):
    """The transformer makes a mean of them."""
    model = load("hyvideo-demo")
    model.pipeline.tokenizer = make_tokenizer(starts=0)
    request = request_of(negative_prompt="", guidance_scale=2.0)
    assert FAMILY.encode(model, request).negative.embeds.shape == (1, 1, WIDTH)


def test_embeddings_come_two_layers_before_the_last(demo, request_of):
    text = FAMILY.encode(demo, request_of(prompt="a red ball")).text
    ids = demo.pipeline.tokenizer("a red ball", return_tensors="pt").input_ids
    layers = demo.pipeline.text_encoder(ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(text.embeds, layers[-3])


@pytest.mark.parametrize(
    ("row", "values", "scale"),
    [
        ("hyvideo-demo", {"guidance_scale": 1.0}, 1.0),
        ("hyvideo-demo", {"guidance_scale": 3.0}, 3.0),
        (EMBEDDED, {"guidance_scale": 6.0}, 1.0),
        (EMBEDDED, {"guidance_scale": 6.0, "true_cfg_scale": 1.0}, 1.0),
        (EMBEDDED, {"guidance_scale": 6.0, "true_cfg_scale": 2.5}, 2.5),
    ],
)
def test_a_negative_prompt_is_encoded_only_for_classifier_free_guidance(
    load, request_of, row, values, scale
):
    model, request = load(row), request_of(model=row, **values)
    assert cfg_scale(model.variant, request) == scale
    assert (FAMILY.encode(model, request).negative is not None) == (scale > 1)


def test_the_language_model_sees_the_start_image_and_black_beside_the_negative_prompt(
    load, request_of, picture, tmp_path
):
    from PIL import Image

    row = "hunyuan-video-i2v"
    model = load(row)

    def text_of(file):
        values = {"image_start": file, "true_cfg_scale": 2.0}
        return FAMILY.encode(model, request_of(model=row, **values))

    black = tmp_path / "black.png"
    Image.new("RGB", (64, 48)).save(black)
    seen, unseen = text_of(picture), text_of(str(black))
    assert not torch.equal(seen.text.embeds, unseen.text.embeds)
    assert torch.equal(seen.negative.embeds, unseen.negative.embeds)


@pytest.mark.parametrize(
    ("row", "tokens"), [("hunyuan-video-i2v", 144), ("hunyuan-video-i2v-33ch", 288)]
)
def test_the_picture_is_thinned_out_as_the_model_was_trained(
    load, request_of, picture, row, tokens
):
    model = load(row)

    def count(prompt):
        values = {"model": row, "prompt": prompt, "image_start": picture}
        return FAMILY.encode(model, request_of(**values)).text.embeds.shape[1]

    assert count("red " * 500) == tokens + model.variant.max_sequence_length - 4
