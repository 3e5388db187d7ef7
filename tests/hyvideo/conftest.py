"""Tiny HunyuanVideo models for the tests of this folder."""

from pathlib import Path

import pytest
from PIL import Image

from engine.family import LoadedModel, get_variant
from engine.loading.weights import components_in
from engine.request import GenerationRequest
from hyvideo import FAMILY
from tests.tiny_hyvideo import write_tiny_hyvideo, write_tiny_i2v, write_tiny_t2v

WRITERS = {
    "hyvideo-demo": write_tiny_hyvideo,
    "hunyuan-video-t2v": write_tiny_t2v,
    "hunyuan-video-i2v": lambda folder: write_tiny_i2v(folder, "token_replace"),
    "hunyuan-video-i2v-33ch": lambda folder: write_tiny_i2v(folder, "latent_concat"),
}


@pytest.fixture(scope="session")
def tiny_folder_of(tmp_path_factory):
    """The folder of a row's tiny model, written once."""
    folders: dict[str, Path] = {}

    def tiny_folder_of(row: str) -> Path:
        if row not in folders:
            folders[row] = WRITERS[row](tmp_path_factory.mktemp(row))
        return folders[row]

    return tiny_folder_of


@pytest.fixture
def load(tiny_folder_of):
    def load(row: str) -> LoadedModel:
        variant = get_variant(row)
        weights = components_in(tiny_folder_of(row))
        pipeline = FAMILY.load(variant, weights, "float32", lambda name: None)
        return LoadedModel(variant, pipeline)

    return load


@pytest.fixture
def picture(tmp_path) -> str:
    """A start image: red on the left, blue on the right."""
    file = tmp_path / "start.png"
    image = Image.new("RGB", (64, 48), (220, 30, 30))
    image.paste((30, 30, 220), (32, 0, 64, 48))
    image.save(file)
    return str(file)


@pytest.fixture
def request_of():
    """A small complete request with some values changed."""

    def request_of(**values) -> GenerationRequest:
        return GenerationRequest.model_validate(
            {
                "model": "hyvideo-demo",
                "prompt": "a red ball moving left",
                "negative_prompt": "",
                "width": 64,
                "height": 48,
                "num_frames": 9,
                "fps": 16.0,
                "num_inference_steps": 3,
                "guidance_scale": 1.0,
                "flow_shift": 7.0,
                "scheduler": "euler",
                "seed": 11,
                **values,
            }
        )

    return request_of
