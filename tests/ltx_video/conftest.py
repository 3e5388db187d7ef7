"""Tiny LTX models for the tests of this folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.family import LoadedModel, get_variant
from engine.loading.weights import components_in
from engine.request import GenerationRequest
from ltx_video import FAMILY
from tests.tiny_ltx import write_tiny_ltx


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    return write_tiny_ltx(tmp_path_factory.mktemp("tiny-ltx"))


@pytest.fixture(scope="session")
def load(tiny_folder):
    """Loads the row with this id from the tiny folder."""

    def load(model: str = "ltxv-demo", folder: Path = tiny_folder) -> LoadedModel:
        variant = get_variant(model)
        weights = components_in(folder)
        pipeline = FAMILY.load(variant, weights, "float32", lambda name: None)
        return LoadedModel(variant, pipeline)

    return load


@pytest.fixture(scope="session")
def model(load) -> LoadedModel:
    return load()


@pytest.fixture(scope="session")
def two_passes(load) -> LoadedModel:
    return load("ltxv-demo-multiscale")


@pytest.fixture
def request_of():
    """A small complete request with some values changed."""

    def request_of(**values) -> GenerationRequest:
        return GenerationRequest.model_validate(
            {
                "model": "ltxv-demo",
                "prompt": "a red ball moving left",
                "negative_prompt": "",
                "width": 96,
                "height": 64,
                "num_frames": 17,
                "fps": 16.0,
                "num_inference_steps": 8,
                "guidance_scale": 1.0,
                "flow_shift": 1.0,
                "scheduler": "euler",
                "seed": 11,
                **values,
            }
        )

    return request_of


@pytest.fixture
def picture(tmp_path) -> str:
    """A file with a picture of soft colours, 96 × 64."""
    y, x = np.mgrid[0:64, 0:96]
    pixels = np.stack([x * 2, y * 3, 128 + 0 * x], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return str(tmp_path / "picture.png")
