"""The whole training, tiny and short, gives a folder that diffusers' pipelines load."""

import sys

import pytest
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from PIL import Image
from safetensors.torch import load_file

from demo import denoiser, hyvideo, train
from demo.export import export
from demo.judge import load_judge
from demo.kind import get_kind
from demo.vae import Stage

SIZE = 64
TEMPLATE = {"template": "{}", "crop_start": 0}


def tiny_vae() -> AutoencoderKLHunyuanVideo:
    config = {**VAE, "block_out_channels": (4, 4, 8, 8)}
    return AutoencoderKLHunyuanVideo.from_config(config)


def tiny_transformer() -> HunyuanVideoTransformer3DModel:
    few = {"num_attention_heads": 1, "num_layers": 1, "num_single_layers": 1}
    return HunyuanVideoTransformer3DModel.from_config({**TRANSFORMER, **few})


VAE, TRANSFORMER = hyvideo.make_vae().config, hyvideo.make_transformer().config


@pytest.fixture
def tiny(monkeypatch):
    """Sizes and seconds that a processor has patience for."""
    monkeypatch.setattr(hyvideo, "SIZES", (SIZE,))
    parts = ((Stage(1, 32, 2, 1e-3), 0.2), (Stage(33, SIZE, 1, 1e-3), 0.2))
    monkeypatch.setattr(hyvideo, "VAE_PARTS", parts)
    monkeypatch.setattr(hyvideo, "DENOISER_SECONDS", 0.5)
    monkeypatch.setattr(hyvideo, "make_vae", tiny_vae)
    monkeypatch.setattr(hyvideo, "make_transformer", tiny_transformer)
    monkeypatch.setattr(HunyuanVideoTransformer3DModel, "compile_repeated_blocks", skip)
    bake = denoiser.Schedule(batch=4, lr=1e-4, seconds=0.5)
    for name, value in {"POOL": 4, "HELD_OUT": 4, "BATCH": 4, "BAKE": bake}.items():
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(train, "JUDGED", 4)
    monkeypatch.setattr(train, "JUDGED_TOGETHER", 2)
    monkeypatch.setattr("demo.trainer.RENDER_BATCH", 4)
    for name in ("PARTS", "JUDGE_PARTS"):
        monkeypatch.setattr(f"demo.dataset.{name}", 2)
    for name in ("CLIPS", "JUDGE_CLIPS"):
        monkeypatch.setattr(f"demo.dataset.{name}", 4)
    monkeypatch.setattr("demo.dataset.JUDGE_SECONDS", 0.1)


def skip(*_arguments: object, **_options: object) -> None:
    """Compiling is tested elsewhere."""


def noise(clips, height, width):
    """Takes no time, unlike a render."""
    return torch.randint(256, (*clips.spin.shape, height, width, 3), dtype=torch.uint8)


def test_a_trained_model_is_loaded_by_diffusers_own_pipelines(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr("demo.trainer.render", noise)
    state, folder = tmp_path / "state", tmp_path / "shipped" / "hyvideo"
    words = ["train", "hyvideo", "--state", str(state), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", words)
    train.main()
    train.main()  # nothing is left to do
    log = (state / "training.log").read_text()
    assert log.count("renderer ready") == 1
    assert "8 steps, guidance 3.0" in log
    assert "20 steps, guidance 1.0" in log
    assert "from first frames" in log

    export(get_kind("hyvideo"), state, folder)
    pipeline = HunyuanVideoPipeline.from_pretrained(folder)
    assert pipeline.transformer.config.image_condition_type == "token_replace"
    pipeline.set_progress_bar_config(disable=True)
    asked = {
        "width": SIZE,
        "height": SIZE,
        "num_frames": 9,
        "num_inference_steps": 2,
        "generator": torch.Generator().manual_seed(0),
        "output_type": "pt",
        "return_dict": False,
    }
    prompt = "a red ball moving left on grass at day"
    (frames,) = pipeline(prompt, prompt_template=TEMPLATE, **asked)
    assert frames.shape == (1, 9, 3, SIZE, SIZE)
    assert frames.isfinite().all()

    embeds, pooled, mask = pipeline.encode_prompt(prompt, prompt_template=TEMPLATE)
    from_image = HunyuanVideoImageToVideoPipeline(
        **pipeline.components, image_processor=None
    )
    from_image.set_progress_bar_config(disable=True)
    image = Image.new("RGB", (SIZE, SIZE), "red")
    (latents,) = from_image(
        image,
        prompt_embeds=embeds,
        pooled_prompt_embeds=pooled,
        prompt_attention_mask=mask,
        **{**asked, "output_type": "latent"},
    )
    pixels = from_image.video_processor.preprocess(image)[:, :, None]
    first = pipeline.vae.encode(pixels).latent_dist.mean
    assert torch.equal(latents[:, :, :1], first)


def test_baking_goes_on_from_what_was_baked(tiny, tmp_path, monkeypatch):
    words = ["train", "hyvideo", "--state", str(tmp_path), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr("demo.trainer.render", noise)
    monkeypatch.setattr(train, "judge_denoiser", skip)
    train.main()
    baked = load_file(tmp_path / "bake.raw.safetensors")
    trained = load_file(tmp_path / "denoiser.raw.safetensors")
    assert any(not torch.equal(baked[name], trained[name]) for name in baked)
    # As if the call had been cut, and the next learnt nothing.
    longer = denoiser.Schedule(batch=4, lr=0.0, seconds=train.BAKE.seconds + 0.5)
    monkeypatch.setattr(train, "BAKE", longer)
    train.main()
    again = load_file(tmp_path / "bake.raw.safetensors")
    assert all(torch.equal(again[name], baked[name]) for name in baked)
    assert not list(tmp_path.rglob("*.part"))


def test_a_judge_is_trained_alone(tiny, tmp_path, monkeypatch):
    words = ["train", "hyvideo", "--state", str(tmp_path), "--device", "cpu"]
    monkeypatch.setattr("demo.trainer.render", noise)
    monkeypatch.setattr(sys, "argv", [*words, "--only", "judge"])
    train.main()
    load_judge(tmp_path / "judge.safetensors")
    assert not (tmp_path / "vae").exists()
    assert "judge on held-out renders" in (tmp_path / "training.log").read_text()


def test_the_decoder_is_trained_on_alone(tiny, tmp_path, monkeypatch):
    words = ["train", "hyvideo", "--state", str(tmp_path), "--device", "cpu"]
    monkeypatch.setattr("demo.trainer.render", noise)
    monkeypatch.setattr(sys, "argv", [*words, "--only", "vae"])
    train.main()
    file = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    before = load_file(file)
    monkeypatch.setattr(sys, "argv", [*words, "--decoder", "0.5"])
    train.main()
    after = load_file(file)
    changed = {
        name.split(".")[0]
        for name in before
        if not torch.equal(before[name], after[name])
    }
    assert changed == {"decoder"}
    assert (tmp_path / "training.log").read_text().count("decoder: held-out") == 2
