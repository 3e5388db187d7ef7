"""FramePack gives what diffusers' own pipeline gives, section by section, in memory
that doesn't grow with the video."""

import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoFramepackPipeline
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from engine.attention.use import masks_attention
from engine.errors import Cancelled, RequestError
from engine.family import LoadedModel, get_variant
from engine.loading.weights import components_in, missing_files
from engine.media.frames import load_image
from engine.request import GenerationRequest
from engine.settings import Settings
from engine.validate import accept
from hyvideo import FAMILY
from hyvideo.framepack_sections import OVERLAP, count_sections, gaps, join
from hyvideo.variants import options_of
from tests.tiny_framepack import write_tiny_framepack

INVERTED, VANILLA = "framepack-i2v", "framepack-f1-i2v"
ROWS = (INVERTED, VANILLA)
STEPS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_framepack(tmp_path_factory.mktemp("tiny-framepack"))


@pytest.fixture(scope="module")
def models(folder) -> dict[str, LoadedModel]:
    weights = components_in(folder)
    return {
        row: LoadedModel(
            get_variant(row),
            FAMILY.load(get_variant(row), weights, "float32", lambda name: None),
        )
        for row in ROWS
    }


@pytest.fixture
def pictures(tmp_path) -> tuple[str, str]:
    """Two files with pictures of soft colours, 48 × 32."""
    y, x = np.mgrid[0:32, 0:48]
    first = np.stack([x * 5, y * 7, 128 + 0 * x], -1).astype(np.uint8)
    Image.fromarray(first).save(tmp_path / "first.png")
    Image.fromarray(first[::-1, ::-1]).save(tmp_path / "last.png")
    return str(tmp_path / "first.png"), str(tmp_path / "last.png")


@pytest.fixture
def request_of(pictures):
    """A small complete request for the row and this many sections, with some values
    changed."""

    def request_of(row: str, sections: int, **values) -> GenerationRequest:
        return GenerationRequest.model_validate(
            {
                "model": row,
                "prompt": "a red ball moving left",
                "negative_prompt": "night",
                "width": 48,
                "height": 32,
                "num_frames": 36 * sections + 1,
                "fps": 30.0,
                "num_inference_steps": STEPS,
                "guidance_scale": 6.0,
                "flow_shift": 7.0,
                "scheduler": "euler",
                "seed": 3,
                "image_start": pictures[0],
                **values,
            }
        )

    return request_of


def latents_of(model, request, on_step=lambda *_: None, on_phase=lambda _: None):
    conditioning = FAMILY.encode(model, request)
    return FAMILY.denoise(model, conditioning, request, on_step, on_phase)


def stock_result(model, request, output_type="latent"):
    """diffusers' own, with the same networks and the prompts without padding, told to
    make as many sections."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=request.flow_shift)
    parts = {**model.pipeline.components, "scheduler": scheduler}
    pipeline = HunyuanVideoFramepackPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    conditioning = FAMILY.encode(model, request)
    given = conditioning.text.arguments()
    if conditioning.negative is not None:
        given |= conditioning.negative.arguments("negative_")
    inverted = model.variant.id == INVERTED
    return pipeline(
        **given,
        image=Image.open(request.image_start),
        last_image=Image.open(request.image_end) if request.image_end else None,
        true_cfg_scale=request.true_cfg_scale or 1.0,
        guidance_scale=request.guidance_scale,
        width=request.width,
        height=request.height,
        num_frames=33 * count_sections(request.num_frames),
        num_inference_steps=STEPS,
        sampling_type="inverted_anti_drifting" if inverted else "vanilla",
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type=output_type,
    ).frames


@pytest.mark.parametrize("sections", [1, 2, 4, 6])
@pytest.mark.parametrize("row", ROWS)
def test_latents_are_diffusers_own_bit_for_bit(models, request_of, row, sections):
    model, request = models[row], request_of(row, sections)
    theirs = stock_result(model, request)[-1]
    assert torch.equal(latents_of(model, request), theirs)


@pytest.mark.parametrize("row", ROWS)
def test_real_guidance_is_diffusers_own_bit_for_bit(models, request_of, row):
    model, request = models[row], request_of(row, 2, true_cfg_scale=2.0)
    guided = latents_of(model, request)
    assert torch.equal(guided, stock_result(model, request)[-1])
    plain = latents_of(model, request_of(row, 2))
    assert not torch.allclose(guided, plain, atol=1e-3)


@pytest.mark.parametrize("sections", [1, 3])
def test_an_end_image_is_treated_as_diffusers_does(
    models, request_of, pictures, sections
):
    model = models[INVERTED]
    request = request_of(INVERTED, sections, image_end=pictures[1])
    latents = latents_of(model, request)
    assert torch.equal(latents, stock_result(model, request)[-1])
    without = latents_of(model, request_of(INVERTED, sections))
    assert not torch.allclose(latents, without, atol=1e-3)


@pytest.mark.parametrize("sections", [1, 2, 4])
@pytest.mark.parametrize("row", ROWS)
def test_frames_are_those_that_diffusers_fades_together(
    models, request_of, row, sections
):
    model, request = models[row], request_of(row, sections)
    chunks = list(FAMILY.decode(model, latents_of(model, request), request))
    frames = np.concatenate(chunks)
    theirs = (stock_result(model, request, "np")[0] * 255).round()
    assert frames.shape == (request.num_frames, 32, 48, 3)
    assert np.array_equal(frames, theirs.astype(np.uint8))
    assert frames.std() > 5


@pytest.mark.parametrize("row", ROWS)
def test_the_start_image_stays_the_first_latent_frame(models, request_of, row):
    model, request = models[row], request_of(row, 2)
    latents, vae = latents_of(model, request), model.pipeline.vae
    pixels = torch.from_numpy(load_image(request.image_start, 48, 32).copy()).float()
    video = (pixels / 127.5 - 1).permute(2, 0, 1)[None, :, None]
    generator = torch.Generator("cpu").manual_seed(request.seed)
    with torch.no_grad():
        encoded = vae.encode(video).latent_dist.sample(generator)
    expected = encoded * vae.config.scaling_factor
    torch.testing.assert_close(latents[:, :, :1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("row", ROWS)
def test_sections_are_told_and_their_steps_counted_together(models, request_of, row):
    said = []
    latents = latents_of(
        models[row],
        request_of(row, 3),
        lambda done, total, latents: said.append((done, total, latents.clone())),
        said.append,
    )
    assert [each for each in said if isinstance(each, str)] == [
        "section 1 of 3",
        "section 2 of 3",
        "section 3 of 3",
    ]
    steps = [each for each in said if not isinstance(each, str)]
    assert [step[:2] for step in steps] == [(n, 6) for n in range(1, 7)]
    finished = [step[2] for step in steps[STEPS - 1 :: STEPS]]
    if options_of(get_variant(row)).order == "inverted":
        finished.reverse()
    # The last step of a section is heading for what the section is.
    torch.testing.assert_close(torch.cat(finished, dim=2), latents[:, :, 1:])


@pytest.mark.parametrize("row", ROWS)
def test_a_cancelled_job_leaves_the_next_one_whole(models, request_of, row):
    model, request = models[row], request_of(row, 2)
    expected = latents_of(model, request)

    def cancel(done, *_):
        if done == STEPS + 1:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        latents_of(model, request, cancel)
    assert torch.equal(latents_of(model, request), expected)


def test_decoding_in_tiles_leaves_the_next_start_image_whole(models, request_of):
    model = models[VANILLA]
    request = request_of(VANILLA, 1, width=96, height=64, vae_tile_size=64)
    expected = latents_of(model, request)
    frames = np.concatenate(list(FAMILY.decode(model, expected, request)))
    assert frames.shape == (37, 64, 96, 3)
    assert torch.equal(latents_of(model, request), expected)


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that is made, but for those of ``besides``
    frames: the latents of the whole video."""

    def __init__(self, besides: int) -> None:
        super().__init__()
        self.besides, self.most = besides, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and not (
            made.ndim == 5 and made.shape[2] == self.besides
        ):
            self.most = max(self.most, made.numel())
        return made


@pytest.mark.parametrize("row", ROWS)
def test_memory_doesnt_grow_with_the_video(models, request_of, row):
    model, sizes = models[row], {}
    for sections in (3, 6):
        request = request_of(row, sections)
        conditioning = FAMILY.encode(model, request)
        with Largest(1 + 9 * sections) as denoising:
            latents = FAMILY.denoise(
                model, conditioning, request, lambda *_: None, lambda _: None
            )
        with Largest(1 + 9 * sections) as decoding:
            for _ in FAMILY.decode(model, latents, request):
                pass
        sizes[sections] = (denoising.most, decoding.most)
    assert sizes[3] == sizes[6]
    assert all(size > 0 for size in sizes[3])


def test_two_pieces_are_in_memory_at_most():
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def pieces():
        nonlocal most
        for _ in range(6):
            piece = torch.rand(1, 3, 2 * OVERLAP + 3, 2, 2)
            alive.add(piece)
            most = max(most, len(alive))
            yield piece
            del piece

    total = sum(part.shape[2] for part in join(pieces()))
    assert total == 6 * (2 * OVERLAP + 3) - 5 * OVERLAP
    assert most <= 2


def test_joined_pieces_fade_from_one_into_the_next():
    parts = [torch.full((1, 1, OVERLAP + 3, 1, 1), value) for value in (0.0, 1.0)]
    video = torch.cat(list(join(iter(parts))), dim=2).flatten()
    assert video[:4].tolist() == [0.0] * 4
    assert video[-4:].tolist() == [1.0] * 4
    rises = video[3 : OVERLAP + 3].diff()
    torch.testing.assert_close(rises, torch.full_like(rises, 1 / (OVERLAP - 1)))


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [0]), (4, [3, 2, 1, 0]), (5, [3, 2, 2, 1, 0]), (7, [3, 2, 2, 2, 2, 1, 0])],
)
def test_far_sections_are_made_as_if_three_away(count, expected):
    assert gaps(count) == expected


@pytest.mark.parametrize(
    ("frames", "nearest"),
    [(91, "73 and 109 are the nearest that work"), (1, "37 is the nearest that works")],
)
@pytest.mark.parametrize("row", ROWS)
def test_lengths_between_sections_are_explained_before_the_run(
    row, frames, nearest, pictures, tmp_path
):
    asked = {
        "model": row,
        "prompt": "a red ball",
        "image_start": pictures[0],
        "num_frames": frames,
    }
    with pytest.raises(RequestError) as raised:
        accept(asked, folder=tmp_path, settings=Settings(root=tmp_path))
    (problem,) = [each for each in raised.value.problems if each.field == "num_frames"]
    assert problem.message == (
        f"{row} makes sections of 36 frames (1.2 s at 30 fps) and one frame more, "
        f"which {frames} frames aren't; {nearest}"
    )


@pytest.mark.parametrize("row", ROWS)
def test_a_gpus_precisions_go_together(folder, request_of, row):
    variant, said = get_variant(row), []
    pipeline = FAMILY.load(variant, components_in(folder), "bfloat16", said.append)
    assert pipeline.transformer.dtype == pipeline.image_encoder.dtype == torch.bfloat16
    assert pipeline.vae.dtype == torch.float16
    assert {"transformer", "image encoder", "vae"} <= set(said)
    model, request = LoadedModel(variant, pipeline), request_of(row, 1)
    frames = np.concatenate(
        list(FAMILY.decode(model, latents_of(model, request), request))
    )
    assert frames.shape == (37, 32, 48, 3)
    assert frames.std() > 5


def test_only_the_backwards_order_takes_an_end_image():
    assert "image_end" in get_variant(INVERTED).media
    assert "image_end" not in get_variant(VANILLA).media


def test_a_transformer_under_its_authors_class_name_is_taken(folder, tmp_path):
    copy = tmp_path / "transformer"
    shutil.copytree(folder / "transformer", copy)
    config = json.loads((copy / "config.json").read_text())
    config["_class_name"] = "HunyuanVideoTransformer3DModelPacked"
    (copy / "config.json").write_text(json.dumps(config))
    weights = {**components_in(folder), "transformer": copy}
    loaded = FAMILY.load(get_variant(VANILLA), weights, "float32", lambda name: None)
    assert loaded.transformer.image_projection is not None


def test_a_folder_of_the_real_layout_is_complete(folder):
    assert missing_files(folder) == []


def test_its_blocks_can_be_compiled_and_take_kernels_without_masks(models):
    transformer = models[VANILLA].pipeline.transformer
    assert not masks_attention(transformer)
    kinds = {type(module).__name__ for module in transformer.modules()}
    assert set(transformer._repeated_blocks) <= kinds
