"""What people met when they ran LTX by hand: each ends well here."""

import pytest
import torch

from engine.errors import Cancelled, RequestError
from engine.family import get_variant
from engine.generate import Generator
from engine.loading.placement import GIB, choose_placement
from engine.validate import accept
from ltx_video import FAMILY
from ltx_video import denoise as denoising
from tests.tiny_ltx import write_tiny_ltx

TWO_PASSES = "ltxv-demo-multiscale"
MOMENTS = (
    ("load", "loading the transformer"),
    ("load", "loading the latent upsampler"),
    ("encode", ""),
    ("denoise", "first pass"),
    ("denoise", "upsampling"),
    ("denoise", "second pass"),
    ("decode", ""),
    ("write", ""),
)


@pytest.fixture
def root(settings):
    write_tiny_ltx(settings.root / "ckpts" / "demo" / "ltx_video")
    return settings


def small_request(settings, **values):
    asked = {
        "model": TWO_PASSES,
        "prompt": "a red ball",
        "width": 96,
        "height": 64,
        "num_frames": 9,
        "seed": 1,
        **values,
    }
    return accept(asked, folder=None, settings=settings)


def test_a_cancel_in_any_phase_leaves_no_file_and_the_next_job_runs(root, tmp_path):
    generator = Generator(root)
    request, folder = small_request(root), tmp_path / "made"
    for number, moment in enumerate(MOMENTS):
        output = folder / f"{number}.mp4"
        seen = []

        def note(event, seen=seen):
            if event.event == "phase":
                seen.append((event.phase, event.message))

        with pytest.raises(Cancelled):
            generator.generate(
                request,
                output,
                on_event=note,
                is_cancelled=lambda seen=seen, moment=moment: moment in seen,
            )
        assert seen[-1] == moment, "it ended where it was cancelled"
        assert not any(path.is_file() for path in folder.rglob("*"))
    generator.generate(request, folder / "whole.mp4")
    generator.close()
    assert [p.name for p in folder.rglob("*") if p.is_file()] == ["whole.mp4"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_frames": 16}, "16 isn't 8k + 1; 9 and 17 are the nearest"),
        ({"width": 100}, "100 isn't a multiple of 8"),
        ({"vae_tile_size": 1}, "64"),
        ({"vae_tile_size": 32}, "64"),
        ({"vae_tile_size": 100}, "multiple of 32"),
        ({"prompt": "a ball | | a cube"}, "part"),
    ],
)
def test_what_the_library_would_cut_off_in_silence_is_refused(settings, values, said):
    with pytest.raises(RequestError) as caught:
        small_request(settings, **values)
    assert said in str(caught.value)


@pytest.mark.parametrize("tile", [0, 64, 128])
def test_tile_sizes_that_work_are_accepted(settings, tile):
    assert small_request(settings, vae_tile_size=tile).vae_tile_size == tile


def test_automatic_tiling_is_the_default(settings):
    assert small_request(settings).vae_tile_size is None


@pytest.mark.parametrize("free_ram", [64, 40, 20])
def test_the_large_model_in_bf16_is_not_put_whole_on_24_gb(free_ram):
    sizes = {
        "transformer": 26 * GIB,
        "text_encoder": int(9.5 * GIB),
        "vae": int(2.5 * GIB),
        "latent_upsampler": GIB // 2,
    }
    placed = choose_placement(
        "auto", sizes, free_vram=23 * GIB, free_ram=free_ram * GIB
    )
    assert placed.profile in (4, 5, 6), "its blocks are streamed"


class _Elsewhere(torch.nn.Module):
    """A transformer on another device than the text encoder."""

    def __init__(self, real) -> None:
        super().__init__()
        self.config = real.config
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.devices = set()

    def cache_context(self, name):
        return torch.no_grad()

    def forward(self, **given):
        tensors = [value for value in given.values() if isinstance(value, torch.Tensor)]
        self.devices |= {str(tensor.device) for tensor in tensors}
        return (torch.zeros_like(given["hidden_states"]),)


def test_all_inputs_are_brought_to_the_device_of_the_transformer(
    load, request_of, monkeypatch
):
    model = load()
    elsewhere = _Elsewhere(model.pipeline.transformer)
    model.pipeline.transformer = elsewhere
    monkeypatch.setattr(
        denoising, "get_module_execution_device", lambda module: torch.device("meta")
    )
    request = request_of(prompt="a red ball | a cube", guidance_scale=3.0)
    conditioning = FAMILY.encode(model, request)
    assert conditioning.text.embeds.device.type == "cpu"
    latents = FAMILY.denoise(
        model, conditioning, request, lambda *_: None, lambda name: None
    )
    assert elsewhere.devices == {"meta"}
    assert latents.device.type == "meta"


class _Wrapper:
    """The parts of a pipeline without the moves of one."""

    def __init__(self, pipeline) -> None:
        self._pipeline = pipeline

    def __getattr__(self, name):
        if name in ("to", "cuda", "cpu"):
            raise AttributeError(f"'_Wrapper' object has no attribute {name!r}")
        return getattr(self._pipeline, name)


def test_the_family_never_moves_a_pipeline_as_a_whole(load, request_of):
    model = load(TWO_PASSES)
    model.pipeline = _Wrapper(model.pipeline)
    request = request_of(model=TWO_PASSES, num_frames=9)
    conditioning = FAMILY.encode(model, request)
    latents = FAMILY.denoise(
        model, conditioning, request, lambda *_: None, lambda name: None
    )
    assert sum(len(c) for c in FAMILY.decode(model, latents, request)) == 9
    assert FAMILY.preview(model, latents).ndim == 4


def test_rows_take_what_the_family_can_do():
    row = get_variant("ltxv-13b-0.9.7-distilled")
    assert row.media == {"image_start", "image_end", "source_video", "conditions"}
    assert row.limits.min_vae_tile == 64
    assert row.prompt_parts
