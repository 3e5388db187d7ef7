"""Whole jobs with LoRAs, and the jobs after them."""

import copy
import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.errors import Cancelled, UnreadableFile
from engine.family import LoadedModel, get_family, get_variant
from engine.generate import Generator
from engine.loading.weights import components_in
from engine.lora.apply import loras_applied
from engine.media.video import read_frames
from engine.progress import Progress
from engine.request import GenerationRequest
from engine.settings import Settings
from engine.validate import accept
from tests.engine.lora.formats import authors_formats, own_formats, written
from tests.engine.lora.networks import in_authors_names, make_lora
from tests.engine.lora.test_formats import CLOSE, with_pefts_layers
from tests.tiny_hyvideo import write_tiny_hyvideo
from tests.tiny_ltx import write_tiny_ltx
from tests.tiny_wan import write_tiny_wan

MODELS = {
    "wan-demo": write_tiny_wan,
    "ltxv-demo": write_tiny_ltx,
    "hyvideo-demo": write_tiny_hyvideo,
}
FORMATS = ("diffusers", "ComfyUI, down and up, alpha", "musubi")
"""The others are held to peft network by network."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A tiny model, a LoRA for it, and latents without it and with it by peft."""

    @functools.cache
    def prepared(model):
        variant = get_variant(model)
        family = get_family(variant.family)
        folder = MODELS[model](tmp_path_factory.mktemp(model))
        weights = components_in(folder)
        pipeline = family.load(variant, weights, "float32", lambda name: None)
        loaded = LoadedModel(variant, pipeline)
        root = tmp_path_factory.mktemp("root")
        data = {"model": model, "prompt": "a red ball moving left", "seed": 11}
        size = {"width": 64, "height": 64, "num_frames": 9, "num_inference_steps": 2}
        settings = Settings(root=root, gpu="cpu")
        request = accept({**data, **size}, folder=None, settings=settings)
        conditioning = family.encode(loaded, request)

        def denoise(on_step=lambda *_: None):
            return family.denoise(
                loaded, conditioning, request, on_step, lambda part: None
            )

        changes = make_lora(pipeline.transformer)
        plain, own = denoise(), pipeline.transformer
        pipeline.transformer = with_pefts_layers(copy.deepcopy(own), changes)
        reference = denoise()
        pipeline.transformer = own
        return SimpleNamespace(
            loaded=loaded,
            request=request,
            settings=settings,
            changes=changes,
            denoise=denoise,
            plain=plain,
            reference=reference,
        )

    return prepared


def tensors_of(latents):
    return latents if isinstance(latents, torch.Tensor) else latents.latents


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize("model", list(MODELS))
def test_every_format_gives_the_video_that_peft_gives(prepared, model, style):
    made = prepared(model)
    family = made.loaded.variant.family
    renamed = in_authors_names(family, made.changes)
    formats = {**own_formats(made.changes), **authors_formats(renamed)}
    file = made.settings.root / "loras" / family / "style.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: t.contiguous() for k, t in formats[style].items()}, file)
    request = made.request.with_values(loras=[{"name": file.name}])
    progress = Progress("job")
    with loras_applied(made.loaded, request, made.settings, progress) as follow:
        result = made.denoise(follow(lambda *_: None))
    result, reference, plain = map(tensors_of, (result, made.reference, made.plain))
    assert float((reference - plain).abs().max()) > 0.01
    assert float((result - reference).abs().max()) <= CLOSE
    assert torch.equal(tensors_of(made.denoise()), plain)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A tiny model in one generator, with LoRAs of its size."""
    root = tmp_path_factory.mktemp("demo")
    settings = Settings(root=root, gpu="cpu")
    write_tiny_wan(root / "ckpts" / "demo" / "wan")
    folder = root / "loras" / "wan"
    folder.mkdir(parents=True)
    torch.manual_seed(4)
    name = "diffusion_model.blocks.{}.self_attn.{}.lora_{}.weight"
    tensors = {
        name.format(block, layer, side): torch.randn(
            (4, 24) if side == "A" else (24, 4)
        )
        * 0.2
        for block in range(2)
        for layer in "qkvo"
        for side in "AB"
    }
    save_file(tensors, folder / "strong.safetensors")
    bad = dict(tensors)
    bad[name.format(1, "o", "B")] = torch.full((24, 4), torch.nan)
    save_file(bad, folder / "nan.safetensors")
    generator = Generator(settings)
    yield SimpleNamespace(
        settings=settings, generator=generator, folder=folder, root=root
    )
    generator.close()


def frames_of(demo, *loras, **options):
    data = {"model": "wan-demo", "prompt": "a red ball", "seed": 3}
    size = {"width": 64, "height": 64, "num_frames": 5, "num_inference_steps": 2}
    listed = [{"name": name, "multiplier": multiplier} for name, multiplier in loras]
    request = accept(
        {**data, **size, "loras": listed}, folder=None, settings=demo.settings
    )
    assert isinstance(request, GenerationRequest)
    file = demo.root / "video.mp4"
    demo.generator.generate(request, file, **options)
    return np.stack(list(read_frames(file)))


def test_the_next_job_is_bit_equal_whatever_became_of_the_one_before(demo):
    plain = frames_of(demo)
    assert not np.array_equal(frames_of(demo, ("strong.safetensors", 1.0)), plain)
    assert np.array_equal(frames_of(demo), plain)
    assert np.array_equal(frames_of(demo, ("strong.safetensors", "0;0")), plain)

    with pytest.raises(UnreadableFile, match=r"nan\.safetensors is damaged: tensor"):
        frames_of(demo, ("strong.safetensors", 1.0), ("nan.safetensors", 1.0))
    assert np.array_equal(frames_of(demo), plain)

    steps = []
    with pytest.raises(Cancelled):
        frames_of(
            demo,
            ("strong.safetensors", 1.0),
            on_event=lambda event: steps.append(event.event),
            is_cancelled=lambda: "step" in steps,
        )
    assert np.array_equal(frames_of(demo), plain)


def test_changing_loras_does_not_load_the_model_again(demo):
    frames_of(demo)
    told = []

    def listen(event):
        told.append(getattr(event, "message", None) or "")

    frames_of(demo, ("strong.safetensors", 0.5), on_event=listen)
    frames_of(demo, on_event=listen)
    assert "reading a LoRA" in told
    assert not [message for message in told if "text encoder" in message]


def test_a_partial_files_rest_is_told_as_a_warning(demo):
    tensors = written({}, "")
    name = "diffusion_model.blocks.{}.self_attn.q.lora_{}.weight"
    for block in (0, 1, 99):
        tensors[name.format(block, "A")] = torch.zeros(2, 24)
        tensors[name.format(block, "B")] = torch.zeros(24, 2)
    save_file(tensors, demo.folder / "more.safetensors")
    told = []
    frames_of(
        demo,
        ("more.safetensors", 1.0),
        on_event=told.append,
    )
    warnings = [event.message for event in told if event.event == "warned"]
    assert len(warnings) == 1
    assert "2 of 6 tensors aren't used (2: the model has no such layer)" in warnings[0]
