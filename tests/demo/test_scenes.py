"""What the demo models are trained on, and what is kept from them."""

import random

import pytest

from demo.captions import canonical_caption, training_caption
from demo.scenes import (
    ATTRIBUTES,
    all_scenes,
    is_held_out,
    label_tensor,
    scene_of,
    split_scenes,
)
from demo.text import make_tokenizer


def test_about_a_tenth_of_the_combinations_is_kept_from_training():
    train, held_out = split_scenes()
    assert (len(train), len(held_out)) == (2600, 280)
    assert not set(train) & set(held_out)
    assert all(is_held_out(scene) for scene in held_out)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_value_is_seen_in_training_and_asked_in_the_evaluation(name):
    for scenes in split_scenes():
        assert {getattr(scene, name) for scene in scenes} == set(ATTRIBUTES[name])


def test_labels_name_the_scene_they_came_from():
    scenes = list(all_scenes())[::97]
    assert [scene_of(row) for row in label_tensor(scenes).tolist()] == scenes


def test_a_plain_caption_reads_as_the_documentation_writes_it():
    scene = next(
        scene
        for scene in all_scenes()
        if (scene.shape, scene.colour, scene.floor, scene.sky, scene.motion)
        == ("ball", "orange", "grass", "day", "left")
    )
    assert canonical_caption(scene) == "an orange ball moving left on grass at day"


def test_one_scene_has_many_wordings():
    rng, scene = random.Random(0), next(all_scenes())
    assert len({training_caption(scene, rng) for _ in range(200)}) > 100


def test_the_tokenizer_knows_every_word_of_every_caption():
    rng, tokenizer = random.Random(0), make_tokenizer(512)
    captions = [training_caption(scene, rng) for scene in all_scenes()]
    ids = tokenizer(captions)["input_ids"]
    assert not any(tokenizer.unk_token_id in row for row in ids)
    assert all(row[-1] == tokenizer.eos_token_id for row in ids)
    assert max(len(row) for row in ids) <= 32
