"""Putting a file on a tiny network, as a job does."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from safetensors.torch import save_file

from engine.family import LoadedModel, get_variant
from engine.lora.apply import loras_applied
from engine.progress import Progress
from engine.request import GenerationRequest
from engine.settings import Settings


@pytest.fixture
def put_on(tmp_path):
    """``with put_on(network, model, tensors, multiplier) as events``."""

    @contextmanager
    def put_on(network, model, *loras, streamer=None, **pipeline):
        variant = get_variant(model)
        folder = tmp_path / "loras" / variant.family
        folder.mkdir(parents=True, exist_ok=True)
        listed = []
        for number, lora in enumerate(loras):
            tensors, multiplier, *metadata = lora
            name = f"lora{number}.safetensors"
            kept = {key: tensor.contiguous() for key, tensor in tensors.items()}
            save_file(kept, folder / name, *metadata)
            listed.append({"name": name, "multiplier": multiplier})
        request = GenerationRequest.model_validate(
            {
                "model": model,
                "prompt": "x",
                "num_inference_steps": 4,
                "loras": listed,
            }
        )
        events: list = []
        progress = Progress("job", events.append)
        networks = SimpleNamespace(transformer=network, **pipeline)
        loaded = LoadedModel(variant, networks, streamer=streamer)
        settings = Settings(root=tmp_path)
        with loras_applied(loaded, request, settings, progress) as follow:
            yield SimpleNamespace(
                warnings=[e.message for e in events if e.event == "warned"],
                follow=follow,
            )

    return put_on
