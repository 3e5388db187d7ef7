"""Each task against diffusers' own pipeline, called directly."""

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Pipeline,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanVideoToVideoPipeline,
)
from PIL import Image

from engine.media.frames import load_clip
from engine.media.video import VideoWriter
from tests.wan.conftest import load
from wan import FAMILY
from wan.variants import VARIANTS

SCHEDULERS = VARIANTS[0].schedulers


def ours(model, request, on_step=lambda done, total, latents: None):
    return FAMILY.denoise(model, FAMILY.encode(model, request), request, on_step, str)


def theirs(
    kind, row_folder, request, expand_timesteps=None, transformer=None, **arguments
):
    """What the pipeline of class ``kind`` makes of the row's files.

    Its networks are loaded as ours are: where weights lie in memory changes how a CPU
    rounds.
    """
    folder = row_folder(request.model)
    networks = {**load(folder, request.model).pipeline.components}
    networks["transformer"] = transformer or networks["transformer"]
    pipeline = kind.from_pretrained(
        folder,
        **{
            name: network
            for name, network in networks.items()
            if isinstance(network, torch.nn.Module)
        },
    )
    if expand_timesteps is not None:
        pipeline.register_to_config(expand_timesteps=expand_timesteps)
    kinds = {"unipc": UniPCMultistepScheduler, "dpm++": DPMSolverMultistepScheduler}
    pipeline.scheduler = kinds[request.scheduler](
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=request.flow_shift,
    )
    pipeline.set_progress_bar_config(disable=True)
    size = {"height": request.height, "width": request.width}
    if request.source_video is None and "num_frames" not in arguments:
        size["num_frames"] = request.num_frames
    torch.manual_seed(request.seed)  # for noise on given frames
    return pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="latent",
        **size,
        **arguments,
    ).frames


@pytest.fixture
def pictures(tmp_path):
    """Files of noise in the size of the videos, by name."""
    made = {}
    for number, name in enumerate(("first", "last", "tall")):
        height = 64 if name == "tall" else 48
        shape = (height, 64, 3)
        pixels = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
        made[name] = tmp_path / f"{name}.png"
        Image.fromarray(pixels).save(made[name])
    return made


@pytest.fixture
def clip(tmp_path):
    """A video of 13 frames of noise at the rate of the videos."""
    made = tmp_path / "clip.mp4"
    shape = (13, 48, 64, 3)
    with VideoWriter(made, width=64, height=48, fps=16.0, tags={}) as video:
        video.write(np.random.default_rng(5).integers(0, 256, shape, np.uint8))
    return made


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_a_start_image_gives_what_diffusers_makes_of_it(
    load_row, row_folder, row_request, pictures, guidance_scale
):
    model = "wan2.1-i2v-14b-480p"
    request = row_request(
        model, image_start=str(pictures["first"]), guidance_scale=guidance_scale
    )
    made = ours(load_row(model), request)
    image = Image.open(pictures["first"])
    expected = theirs(WanImageToVideoPipeline, row_folder, request, image=image)
    assert made.shape == (1, 16, 3, 6, 8)
    assert torch.equal(made, expected)


def test_two_images_give_what_diffusers_makes_of_them(
    load_row, row_folder, row_request, pictures
):
    model = "wan2.1-flf2v-14b-720p"
    request = row_request(
        model, image_start=str(pictures["first"]), image_end=str(pictures["last"])
    )
    made = ours(load_row(model), request)
    first, last = (Image.open(pictures[name]) for name in ("first", "last"))
    expected = theirs(
        WanImageToVideoPipeline, row_folder, request, image=first, last_image=last
    )
    assert torch.equal(made, expected)


def test_an_end_image_counts_where_the_network_sees_the_start_only(
    load_row, row_request, pictures
):
    model = "wan2.1-fun-inp-14b"
    start = {"image_start": str(pictures["first"])}
    loaded = load_row(model)
    without = ours(loaded, row_request(model, **start))
    made = ours(loaded, row_request(model, **start, image_end=str(pictures["last"])))
    assert made.shape == without.shape
    assert not torch.equal(made, without)
    with Image.open(pictures["first"]) as first, Image.open(pictures["last"]) as last:
        seen = loaded.pipeline.encode_image([first, last], "cpu")
        alone = WanImageToVideoPipeline.encode_image(loaded.pipeline, first, "cpu")
    assert torch.equal(seen, alone)


@pytest.mark.parametrize("task", ["t2v", "i2v"])
def test_skyreels_without_forcing_is_what_its_own_classes_make(
    load_row, row_folder, row_request, pictures, task
):
    model = f"skyreels-v2-{task}-14b-540p"
    given = {"image_start": str(pictures["first"])} if task == "i2v" else {}
    request = row_request(model, guidance_scale=4.0, **given)
    # With its authors' transformer; what both share is that of the other tests.
    kind = SkyReelsV2ImageToVideoPipeline if given else SkyReelsV2Pipeline
    image = {"image": Image.open(pictures["first"])} if given else {}
    pipeline = kind.from_pretrained(row_folder(model))
    assert type(pipeline.transformer).__name__ == "SkyReelsV2Transformer3DModel"
    expected = theirs(
        kind, row_folder, request, transformer=pipeline.transformer, **image
    )
    assert torch.allclose(ours(load_row(model), request), expected, atol=1e-4)


@pytest.mark.parametrize("last", [None, "last"])
def test_a_pair_of_transformers_is_used_as_diffusers_does(
    load_row, row_folder, row_request, pictures, last
):
    model = "wan2.2-i2v-a14b"
    request = row_request(
        model,
        image_start=str(pictures["first"]),
        image_end=last and str(pictures[last]),
        num_inference_steps=4,
        guidance_scale_2=2.0,
    )
    made = ours(load_row(model), request)
    expected = theirs(
        WanImageToVideoPipeline,
        row_folder,
        request,
        image=Image.open(pictures["first"]),
        last_image=last and Image.open(pictures[last]),
        guidance_scale_2=2.0,
    )
    assert torch.equal(made, expected)


def test_each_of_a_pair_has_its_noise_levels_and_its_guidance(load_row, row_request):
    model = load_row("wan2.2-t2v-a14b")
    pipeline = model.pipeline
    seen = []
    for name in ("transformer", "transformer_2"):
        getattr(pipeline, name).register_forward_pre_hook(
            lambda _module, _args, given, name=name: seen.append(
                (name, given["timestep"].item())
            ),
            with_kwargs=True,
        )
    request = row_request(
        "wan2.2-t2v-a14b",
        num_inference_steps=6,
        flow_shift=3.0,
        guidance_scale=1.0,
        guidance_scale_2=1.0,
    )
    ours(model, request)
    assert len(seen) == 6
    assert {name for name, time in seen if time >= 875} == {"transformer"}
    assert {name for name, time in seen if time < 875} == {"transformer_2"}


def test_the_second_guidance_matters(load_row, row_folder, row_request):
    model = "wan2.2-t2v-a14b"
    loaded = load_row(model)
    request = row_request(
        model, num_inference_steps=6, flow_shift=3.0, guidance_scale_2=2.0
    )
    made = ours(loaded, request)
    assert torch.equal(
        made, theirs(WanPipeline, row_folder, request, guidance_scale_2=2.0)
    )
    other = request.with_values(guidance_scale_2=6.0)
    assert not torch.equal(made, ours(loaded, other))


def test_wan_2_2_5b_makes_what_diffusers_makes_from_text(
    load_row, row_folder, row_request
):
    request = row_request("wan2.2-ti2v-5b", height=64)
    made = ours(load_row(request.model), request)
    assert made.shape == (1, 48, 3, 4, 4)
    assert torch.equal(made, theirs(WanPipeline, row_folder, request))


def test_wan_2_2_5b_makes_what_diffusers_makes_from_an_image(
    load_row, row_folder, row_request, pictures
):
    request = row_request(
        "wan2.2-ti2v-5b", height=64, image_start=str(pictures["tall"])
    )
    seen = []
    model = load_row(request.model)
    made = ours(model, request, lambda done, total, latents: seen.append(latents))
    image = Image.open(pictures["tall"])
    expected = theirs(
        WanImageToVideoPipeline,
        row_folder,
        request,
        image=image,
        expand_timesteps=True,
    )
    assert torch.equal(made, expected)
    # The image is there from the first preview on.
    assert all(torch.equal(each[:, :, 0], made[:, :, 0]) for each in seen)
    assert not isinstance(model.pipeline, WanImageToVideoPipeline)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_source_video_is_made_anew_as_diffusers_does(
    load_row, row_folder, row_request, clip, strength
):
    request = row_request(
        "wan2.1-t2v-1.3b",
        source_video=str(clip),
        strength=strength,
        num_inference_steps=4,
    )
    told = []
    made = ours(
        load_row(request.model),
        request,
        lambda done, total, latents: told.append((done, total)),
    )
    frames = [Image.fromarray(frame) for frame in load_clip(clip, 64, 48, 16)[:9]]
    expected = theirs(
        WanVideoToVideoPipeline,
        row_folder,
        request,
        video=frames,
        strength=strength,
    )
    assert torch.equal(made, expected)
    steps = int(4 * strength)
    assert told == [(done, steps) for done in range(1, steps + 1)]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_little_strength_stays_near_the_source(model, request_of, clip, scheduler):
    def distance(strength):
        request = request_of(
            source_video=str(clip),
            strength=strength,
            num_inference_steps=10,
            scheduler=scheduler,
        )
        return (ours(model, request) - given).abs().mean()

    pipeline = model.pipeline
    frames = load_clip(clip, 64, 48, 16)[:9]
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    latents = pipeline.vae.encode(video).latent_dist.mode()
    given = (latents - 0.5) / 2.0
    assert distance(0.1) < distance(0.9)
