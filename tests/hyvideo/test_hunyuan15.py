"""HunyuanVideo 1.5 gives what diffusers' own pipelines give, with progress, cancelling
and a size of its own."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
)
from diffusers.models.transformers.transformer_hunyuan_video15 import (
    HunyuanVideo15AttnProcessor2_0,
)
from PIL import Image

from engine.attention.use import masks_attention
from engine.errors import Cancelled
from engine.family import LoadedModel, get_variant
from engine.loading.weights import components_in, missing_files
from engine.request import GenerationRequest
from hyvideo import FAMILY, hunyuan15
from tests.tiny_hunyuan15 import make_transformer, write_tiny_hunyuan15

TEXT = "hunyuan-video-1.5-t2v-480p"
IMAGE = "hunyuan-video-1.5-i2v-480p"
PROMPT = 'a red ball "on sand" moving left'


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {
        row: write_tiny_hunyuan15(tmp_path_factory.mktemp(row), from_image=row == IMAGE)
        for row in (TEXT, IMAGE)
    }


@pytest.fixture(scope="module")
def models(folders) -> dict[str, LoadedModel]:
    return {row: load(row, folder) for row, folder in folders.items()}


def load(row: str, folder: Path) -> LoadedModel:
    variant = get_variant(row)
    weights = components_in(folder)
    pipeline = FAMILY.load(variant, weights, "float32", lambda name: None)
    # As a copy of it: a CPU rounds by how weights are aligned in memory.
    pipeline.transformer = deepcopy(pipeline.transformer)
    return LoadedModel(variant, pipeline)


@pytest.fixture
def picture(tmp_path) -> str:
    """A file with a picture of soft colours, 80 × 48: of the sizes that diffusers
    would choose for the tiny model, the one nearest to it is the same."""
    y, x = np.mgrid[0:48, 0:80]
    pixels = np.stack([x * 3, y * 5, 128 + 0 * x], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return str(tmp_path / "picture.png")


@pytest.fixture
def request_of(picture):
    """A small complete request for the row, with some values changed."""

    def request_of(row: str, **values) -> GenerationRequest:
        return GenerationRequest.model_validate(
            {
                "model": row,
                "prompt": PROMPT,
                "negative_prompt": "night",
                "width": 80,
                "height": 48,
                "num_frames": 9,
                "fps": 24.0,
                "num_inference_steps": 4,
                "guidance_scale": 6.0,
                "flow_shift": 5.0,
                "scheduler": "euler",
                "seed": 3,
                "image_start": picture if row == IMAGE else None,
                **values,
            }
        )

    return request_of


def latents_of(model, request, on_step=lambda *_: None):
    conditioning = FAMILY.encode(model, request)
    return FAMILY.denoise(model, conditioning, request, on_step, lambda _: None)


def stock_pipeline(model):
    """diffusers' own, with the same networks and its own attention."""
    from_image = model.variant.id == IMAGE
    kind = HunyuanVideo15ImageToVideoPipeline if from_image else HunyuanVideo15Pipeline
    transformer = deepcopy(model.pipeline.transformer)
    for block in transformer.transformer_blocks:
        block.attn.set_processor(HunyuanVideo15AttnProcessor2_0())
    parts = {
        **model.pipeline.components,
        "transformer": transformer,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
    }
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock_result(pipeline, request, output_type="latent", **values):
    pipeline.guider = pipeline.guider.new(guidance_scale=request.guidance_scale)
    size = {"width": request.width, "height": request.height}
    image = {"image": Image.open(request.image_start)} if request.image_start else size
    given = values or {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
    }
    return pipeline(
        **given,
        **image,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type=output_type,
    ).frames


@pytest.mark.parametrize("guidance_scale", [1.0, 6.0])
@pytest.mark.parametrize("row", [TEXT, IMAGE])
def test_latents_are_diffusers_own_bit_for_bit_with_the_same_text(
    models, request_of, row, guidance_scale
):
    model, request = models[row], request_of(row, guidance_scale=guidance_scale)
    conditioning = FAMILY.encode(model, request)
    given = conditioning.text.arguments()
    if conditioning.negative is not None:
        given |= conditioning.negative.arguments("negative_")
    stock = stock_pipeline(model)
    # The masks that its attention makes are all of ones.
    if row == TEXT:
        stock.vision_num_semantic_tokens = 0
    stock.encode_prompt = model.pipeline.encode_prompt
    theirs = stock_result(stock, request, **given)
    assert torch.equal(latents_of(model, request), theirs)


@pytest.mark.parametrize("row", [TEXT, IMAGE])
def test_cutting_the_padding_off_changes_no_more_than_rounding(models, request_of, row):
    model, request = models[row], request_of(row)
    theirs = stock_result(stock_pipeline(model), request)
    torch.testing.assert_close(latents_of(model, request), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("row", [TEXT, IMAGE])
def test_no_token_is_padding(models, request_of, row):
    conditioning = FAMILY.encode(models[row], request_of(row))
    words = ["a", "red", "ball", '"', "on", "sand", '"', "moving", "left", "</s>"]
    assert conditioning.text.embeds.shape[1] == len(words)
    assert conditioning.text.glyphs.shape[1] == len('Text "on sand". ') + 1
    assert conditioning.negative.glyphs.shape[1] == 0
    assert not masks_attention(models[row].pipeline.transformer)


@pytest.mark.parametrize("row", [TEXT, IMAGE])
def test_frames_are_those_of_diffusers(models, request_of, row):
    model, request = models[row], request_of(row)
    frames = np.concatenate(
        list(FAMILY.decode(model, latents_of(model, request), request))
    )
    theirs = stock_result(stock_pipeline(model), request, "np")[0]
    assert frames.shape == (9, 48, 80, 3)
    # One byte where the latents' rounding decides.
    assert np.abs(frames - (theirs * 255).round()).max() <= 1
    assert frames.std() > 5


def test_tiles_are_those_of_diffusers(models, request_of):
    model = models[TEXT]
    request = request_of(TEXT, width=160, height=96, vae_tile_size=64)
    latents, vae = latents_of(model, request), model.pipeline.vae
    frames = np.concatenate(list(FAMILY.decode(model, latents, request)))
    vae.enable_tiling(
        tile_sample_min_height=64,
        tile_sample_min_width=64,
        tile_latent_min_height=4,
        tile_latent_min_width=4,
    )
    with torch.no_grad():
        whole = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
    vae.disable_tiling()
    pixels = (whole[0] / 2 + 0.5).clamp(0, 1).mul(255).round().permute(1, 2, 3, 0)
    assert frames.shape == (9, 96, 160, 3)
    assert np.array_equal(frames, pixels.numpy())


@pytest.mark.parametrize(("asked", "used"), [(None, 256), (0, 0), (96, 64), (128, 128)])
def test_a_tile_has_whole_latents_of_overlap(request_of, asked, used):
    request = request_of(TEXT, vae_tile_size=asked)
    assert hunyuan15.tile_size(request, torch.zeros(1, 4, 3, 3, 5)) == used


def test_automatic_tiles_go_by_the_free_memory(request_of, monkeypatch):
    class OnGpu:
        device = torch.device("cuda", 0)
        shape = (1, 32, 31, 30, 53)

        def element_size(self) -> int:
            return 2

    request = request_of(TEXT)
    for free, expected in ((80, 256), (12, 128), (2, 64), (0, 64)):
        monkeypatch.setattr(
            "hyvideo.hunyuan15.free_memory", lambda device, free=free: free << 30
        )
        assert hunyuan15.tile_size(request, OnGpu()) == expected


def test_steps_are_told_with_where_the_latents_head(models, request_of):
    steps = []
    latents = latents_of(
        models[TEXT], request_of(TEXT), lambda *step: steps.append(step)
    )
    assert [step[:2] for step in steps] == [(n, 4) for n in range(1, 5)]
    assert all(step[2].shape == latents.shape for step in steps)
    torch.testing.assert_close(steps[-1][2], latents)
    assert not torch.allclose(steps[0][2], latents, atol=0.01)


@pytest.mark.parametrize("row", [TEXT, IMAGE])
def test_a_cancelled_job_leaves_the_next_one_whole(models, request_of, row):
    model, request = models[row], request_of(row)
    expected = latents_of(model, request)

    def cancel(done, *_):
        if done == 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        latents_of(model, request, cancel)
    assert torch.equal(latents_of(model, request), expected)


def test_decoding_in_tiles_leaves_the_next_start_image_whole(models, request_of):
    model, request = models[IMAGE], request_of(IMAGE, vae_tile_size=64)
    expected = latents_of(model, request)
    list(FAMILY.decode(model, expected, request))
    assert torch.equal(latents_of(model, request), expected)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (128, 48), (48, 112)])
def test_image_to_video_has_the_size_of_the_request(models, request_of, width, height):
    model, request = models[IMAGE], request_of(IMAGE, width=width, height=height)
    latents = latents_of(model, request)
    assert latents.shape == (1, 4, 3, height // 16, width // 16)
    (frames,) = {each.shape[1:] for each in FAMILY.decode(model, latents, request)}
    assert frames == (height, width, 3)


def test_the_start_image_is_what_the_transformer_sees_first(
    models, request_of, monkeypatch
):
    model, request, seen = models[IMAGE], request_of(IMAGE), []
    transformer = model.pipeline.transformer
    hook = transformer.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["hidden_states"]), with_kwargs=True
    )
    latents_of(model, request)
    hook.remove()
    vae = model.pipeline.vae
    pixels = torch.from_numpy(np.array(Image.open(request.image_start))).float()
    video = (pixels / 127.5 - 1).permute(2, 0, 1)[None, :, None]
    with torch.no_grad():
        encoded = vae.encode(video).latent_dist.mode() * vae.config.scaling_factor
    given, mask = seen[0][:, 4:8], seen[0][:, 8:]
    torch.testing.assert_close(given[:, :, :1], encoded, rtol=1e-4, atol=1e-4)
    assert not given[:, :, 1:].any()
    assert mask[:, :, 0].all()
    assert not mask[:, :, 1:].any()


def test_guidance_and_negative_prompt_have_an_effect(models, request_of):
    model = models[TEXT]
    plain = latents_of(model, request_of(TEXT, guidance_scale=1.0))
    for values in ({}, {"negative_prompt": "sand"}, {"guidance_scale": 3.0}):
        guided = latents_of(model, request_of(TEXT, **values))
        assert not torch.allclose(plain, guided, atol=1e-3)
    unguided = FAMILY.encode(model, request_of(TEXT, guidance_scale=1.0))
    assert unguided.negative is None


def test_flow_shift_is_that_of_the_request(models, request_of):
    model = models[TEXT]
    latents_of(model, request_of(TEXT, flow_shift=9.0))
    assert model.pipeline.scheduler.config.shift == 9.0
    expected = 9 * 0.75 / (1 + 8 * 0.75)
    assert float(model.pipeline.scheduler.sigmas[1]) == pytest.approx(expected)


def test_the_step_distilled_model_is_told_the_next_step(models, request_of):
    torch.manual_seed(0)
    step_distilled = make_transformer(step_distilled=True)
    hunyuan15.attend_without_mask(step_distilled)
    model, seen = models[IMAGE], []
    before, model.pipeline.transformer = model.pipeline.transformer, step_distilled
    step_distilled.register_forward_pre_hook(
        lambda _, __, given: seen.append(float(given["timestep_r"])), with_kwargs=True
    )
    latents_of(model, request_of(IMAGE, guidance_scale=1.0))
    model.pipeline.transformer = before
    assert seen == [*model.pipeline.scheduler.timesteps[1:].tolist(), 0.0]


@pytest.mark.parametrize("row", [TEXT, IMAGE])
def test_a_gpus_precisions_go_together(folders, request_of, row):
    variant = get_variant(row)
    weights = components_in(folders[row])
    pipeline = FAMILY.load(variant, weights, "bfloat16", lambda name: None)
    assert pipeline.transformer.dtype == torch.bfloat16
    assert pipeline.vae.dtype == torch.float16
    model, request = LoadedModel(variant, pipeline), request_of(row)
    frames = np.concatenate(
        list(FAMILY.decode(model, latents_of(model, request), request))
    )
    assert frames.shape == (9, 48, 80, 3)
    assert frames.std() > 5


@pytest.mark.parametrize("row", [TEXT, IMAGE])
def test_a_folder_of_the_real_layout_is_complete(folders, row):
    assert missing_files(folders[row]) == []


def test_a_folder_without_its_guider_is_not(folders, tmp_path):
    copy = tmp_path / "copy"
    copy.symlink_to(folders[TEXT])
    (folders[TEXT] / "guider/guider_config.json").rename(tmp_path / "away")
    assert missing_files(copy) == ["guider/guider_config.json"]
    (tmp_path / "away").rename(folders[TEXT] / "guider/guider_config.json")
