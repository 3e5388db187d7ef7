"""A CUDA device that is the CPU, enough for mmgp to run: its bookkeeping, hooks and
conversions are the real ones; transfers and streams do nothing.

Run as a program, it makes latents and frames of tiny models under each memory profile
and prints whether they are those without one. It changes torch for the whole
process, so tests run it in one of its own.
"""

import contextlib
import gc
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from engine.errors import UserError
from engine.family import LoadedModel, get_family, get_variant
from engine.loading import offload, streaming
from engine.loading.checkpoint import load_component
from engine.loading.weights import components_in
from engine.progress import Progress, ignore, never
from engine.request import GenerationRequest
from engine.settings import Settings
from tests.tiny_framepack import write_tiny_framepack
from tests.tiny_hunyuan15 import write_tiny_hunyuan15
from tests.tiny_hyvideo import write_tiny_hyvideo, write_tiny_i2v
from tests.tiny_wan import write_tiny_wan
from tests.tiny_wan_rows import write_tiny_row

GIB = 1 << 30
NOTHING = SimpleNamespace(
    wait_event=lambda _: None,
    wait_stream=lambda _: None,
    record=lambda _: None,
    cudaHostRegister=lambda *_: 0,
    cudaHostUnregister=lambda _: 0,
)
"""Streams, events and the runtime."""

CUDA_FUNCTIONS = {
    "get_device_capability": lambda *_: (9, 0),
    "get_device_properties": lambda *_: SimpleNamespace(total_memory=24 * GIB),
    "mem_get_info": lambda *_: (20 * GIB, 24 * GIB),
    "memory_reserved": lambda *_: 0,
    "memory_allocated": lambda *_: 0,
    "default_stream": lambda *_: None,
    "current_stream": lambda *_: NOTHING,
    "Stream": lambda *_: NOTHING,
    "Event": lambda *_: NOTHING,
    "cudart": lambda: NOTHING,
    "stream": lambda _: contextlib.nullcontext(),
    "synchronize": lambda *_: None,
    "empty_cache": lambda *_: None,
    "set_device": lambda *_: None,
}


def install_fake_cuda() -> None:
    real_to, real_default = torch.Tensor.to, torch.set_default_device
    real_empty = torch.empty

    def here(device):
        return "cpu" if str(device).startswith("cuda") else device

    def to(tensor, *args, **kwargs):
        kwargs = {key: here(v) if key == "device" else v for key, v in kwargs.items()}
        return real_to(tensor, *(here(value) for value in args), **kwargs)

    def empty(*size, **kwargs):
        kwargs = {key: here(v) if key == "device" else v for key, v in kwargs.items()}
        return real_empty(*size, **kwargs)

    for name, function in CUDA_FUNCTIONS.items():
        setattr(torch.cuda, name, function)
    torch.Tensor.to, torch.empty = to, empty
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor
    torch.Tensor.pin_memory = lambda tensor, *_, **__: tensor
    torch.set_default_device = lambda device: real_default(device and here(device))
    offload.import_mmgp().HfHook.__init__ = lambda hook: setattr(
        hook, "execution_device", "cpu"
    )


def generate(model: LoadedModel, picture: Path) -> tuple[torch.Tensor, np.ndarray]:
    variant = model.variant
    side, frames = (32, 37) if variant.limits.in_sections else (64, 5)
    values = {"model": variant.id, "prompt": "a red ball", "seed": 1, "width": side}
    values |= {"height": side, "num_frames": frames, "guidance_scale": 3.0}
    # Euler's timesteps aren't whole: rounding them to bfloat16 would show.
    values |= {"scheduler": "euler", "num_inference_steps": 3}
    values |= dict.fromkeys(variant.required_media, str(picture))
    request = GenerationRequest.model_validate({**variant.defaults, **values})
    family = get_family(variant.family)
    conditioning = family.encode(model, request)
    latents = family.denoise(
        model, conditioning, request, lambda *_: None, lambda _: None
    )
    model.make_room()
    return latents, np.concatenate(list(family.decode(model, latents, request)))


def compare(row: str, folder: Path) -> None:
    """One model under each profile and under none."""
    variant = get_variant(row)
    family = get_family(variant.family)
    picture = folder.parent / "start.png"
    Image.new("RGB", (64, 64), (220, 30, 30)).save(picture)

    def load() -> Any:
        weights = components_in(folder)
        return family.load(variant, weights, "bfloat16", lambda name: None)

    latents, frames = generate(LoadedModel(variant, load()), picture)
    for profile in ("1", "2", "3", "4", "5", "6"):
        settings = Settings(root=folder, attention="sdpa", profile=profile)
        progress = Progress("job", ignore, never)
        # Nothing is kept on the device, or all of so small a model would be.
        model = offload.place(variant, load(), "cuda:0", settings, progress, math.inf)
        again, same_frames = generate(model, picture)
        same = torch.equal(again, latents) and np.array_equal(same_frames, frames)
        print(f"{row}, profile {profile}: {'same' if same else 'DIFFERENT'}")
        model.release()


def compare_int8(folder: Path) -> None:
    """Weights in 8 bits, which mmgp moves as they are."""
    from tests.engine.loading import test_quantised as int8

    file = int8.write_int8(int8.make_transformer(), folder / "int8.safetensors")

    def load():
        return load_component(int8.KIND, file, "bfloat16", int8.SIZE)

    @torch.no_grad()
    def compute(network):
        torch.manual_seed(0)
        latents = torch.randn(1, 8, 8, dtype=torch.bfloat16)
        text = torch.randn(1, 4, 32, dtype=torch.bfloat16)
        timestep, mask = torch.tensor([500.0]), torch.ones(1, 4)
        return network(latents, text, timestep, mask, 2, 2, 2).sample

    plain = compute(load())
    for profile in ("1", "2", "3", "4", "5"):
        pipeline = SimpleNamespace(transformer=load())
        pipeline.components = {"transformer": pipeline.transformer}
        settings = Settings(root=folder, attention="sdpa", profile=profile)
        model = offload.place(None, pipeline, "cuda:0", settings, Progress("job"))
        same = torch.equal(compute(pipeline.transformer), plain)
        print(f"int8, profile {profile}: {'same' if same else 'DIFFERENT'}")
        model.release()


def main(folder: Path) -> None:
    install_fake_cuda()
    streaming.LARGE_TABLE = 0  # all tables of words stay in main memory
    gc.freeze()  # mmgp collects garbage dozens of times: let it skip the libraries
    compare("wan-demo", write_tiny_wan(folder / "wan"))
    for row in ("wan2.1-i2v-14b-480p", "wan2.2-i2v-a14b", "wan2.2-ti2v-5b"):
        compare(row, write_tiny_row(row, folder / row))
    compare("hyvideo-demo", write_tiny_hyvideo(folder / "hyvideo"))
    own = write_tiny_i2v(folder / "i2v", "token_replace")
    compare("hunyuan-video-i2v", own)
    newer = write_tiny_hunyuan15(folder / "1.5", from_image=True)
    compare("hunyuan-video-1.5-i2v-480p", newer)
    compare("framepack-i2v", write_tiny_framepack(folder / "framepack"))
    compare_int8(folder)
    print("default device:", torch.get_default_device())


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(str(error))
