"""Tiny Wan models for the tests of this folder."""

from functools import cache
from pathlib import Path

import pytest

from engine.family import LoadedModel, get_variant
from engine.loading.weights import components_in
from engine.request import GenerationRequest
from tests.tiny_wan import write_tiny_wan
from tests.tiny_wan_rows import write_tiny_row
from wan import FAMILY


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A model with the demo model's kind of VAE."""
    return write_tiny_wan(tmp_path_factory.mktemp("tiny-wan"))


@pytest.fixture(scope="session")
def tiny_folder_with_wans_vae(tmp_path_factory) -> Path:
    """A model with Wan 2.1's own kind of VAE."""
    return write_tiny_wan(tmp_path_factory.mktemp("tiny-wan-own"), patched_vae=False)


@pytest.fixture
def model(tiny_folder) -> LoadedModel:
    return load(tiny_folder)


@pytest.fixture
def request_of():
    """A small complete request with some values changed."""

    def request_of(**values) -> GenerationRequest:
        return GenerationRequest.model_validate(
            {
                "model": "wan-demo",
                "prompt": "a red ball moving left",
                "negative_prompt": "",
                "width": 64,
                "height": 48,
                "num_frames": 9,
                "fps": 16.0,
                "num_inference_steps": 3,
                "guidance_scale": 1.0,
                "flow_shift": 3.0,
                "scheduler": "unipc",
                "seed": 11,
                **values,
            }
        )

    return request_of


@pytest.fixture(scope="session")
def row_folder(tmp_path_factory):
    """The folder of a tiny model in the layout of a row."""

    @cache
    def row_folder(model: str) -> Path:
        return write_tiny_row(model, tmp_path_factory.mktemp(model))

    return row_folder


@pytest.fixture
def load_row(row_folder):
    """A tiny model in the layout of a row, loaded."""
    return lambda model: load(row_folder(model), model)


@pytest.fixture
def row_request(request_of):
    """A small complete request to a row, with its own defaults beside the size."""

    def row_request(model: str, **values) -> GenerationRequest:
        own = get_variant(model).defaults
        names = own.keys() & {"flow_shift", "fps", "guidance_scale_2"}
        kept = {name: own[name] for name in names}
        return request_of(**{"guidance_scale": 4.0, "model": model, **kept, **values})

    return row_request


def load(folder: Path, model: str = "wan-demo") -> LoadedModel:
    variant = get_variant(model)
    pipeline = FAMILY.load(variant, components_in(folder), "float32", lambda name: None)
    return LoadedModel(variant, pipeline)
