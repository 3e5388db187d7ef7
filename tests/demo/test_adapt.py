"""A task's whole training, tiny and short, gives a transformer that diffusers' own
pipeline and the app's rows run beside the base's other parts."""

import random
import shutil
import sys

import numpy as np
import pytest
import torch
from diffusers import (
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from PIL import Image

from demo import adapt, wan, wan_i2v, wan_vace
from demo.evaluate import make_video
from demo.export import export_task
from demo.pairs import show_all
from demo.task import TASKS, get_task
from engine.family import get_variant
from engine.loading.resident import ResidentModel
from engine.media.video import VideoWriter
from engine.progress import Progress
from engine.settings import Settings
from tests.tiny_demo import write_tiny_demo
from wan.call import fit_scale

# Autocast on a processor runs each operation alone.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Mismatch dtype between input and weight"
)

SIZE = 64
PIPELINES = {"wan_i2v": WanImageToVideoPipeline, "wan_vace": WanVACEPipeline}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model from text, tiny and not trained."""
    return write_tiny_demo(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def clips():
    """Noise, uint8 (2, 9, 64, 64, 3)."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, SIZE, SIZE, 3), np.uint8)
    return torch.from_numpy(pixels)


@pytest.fixture
def tiny(monkeypatch):
    """Sizes and seconds that a processor has patience for."""
    monkeypatch.setattr(wan, "SIZES", (SIZE,))
    for transformer in (WanTransformer3DModel, WanVACETransformer3DModel):
        monkeypatch.setattr(transformer, "compile_repeated_blocks", skip)
    for task in (wan_i2v, wan_vace):
        monkeypatch.setattr(task, "SECONDS", 0.5)
    for name, value in {"BATCH": 2, "JUDGED": 4, "STEPS": 2}.items():
        monkeypatch.setattr(adapt, name, value)
    monkeypatch.setattr("demo.trainer.RENDER_BATCH", 4)
    monkeypatch.setattr("demo.trainer.render", noise)
    monkeypatch.setattr("demo.pairs.PARTS", 2)
    monkeypatch.setattr("demo.pairs.CLIPS", 8)


def noise(clips, height, width):
    """Takes no time, unlike a render."""
    return torch.randint(256, (*clips.spin.shape, height, width, 3), dtype=torch.uint8)


def skip(*_arguments: object, **_options: object) -> None:
    """Compiling is tested elsewhere."""


def run(monkeypatch, task, state, base, *more):
    words = ["adapt", task, "--state", str(state), "--base", str(base)]
    monkeypatch.setattr(sys, "argv", [*words, "--device", "cpu", *more])
    adapt.main()


def loaded(kind, folder, base):
    """diffusers' pipeline of the task's transformer and the base's other parts."""
    parts = WanPipeline.from_pretrained(base).components
    names = ("tokenizer", "text_encoder", "vae")
    pipeline = kind.from_pretrained(folder, **{name: parts[name] for name in names})
    return fit_scale(pipeline)


ASKED = {
    "height": SIZE,
    "width": SIZE,
    "num_frames": 9,
    "num_inference_steps": 2,
    "guidance_scale": 1.0,
    "output_type": "np",
    "return_dict": False,
}
PROMPT = "a red ball moving left on grass at day"


@pytest.mark.parametrize("name", TASKS)
def test_a_trained_task_is_run_by_diffusers_own_pipeline(
    tiny, base, tmp_path, monkeypatch, name
):
    state, folder = tmp_path / "state", tmp_path / name
    run(monkeypatch, name, state, base)
    run(monkeypatch, name, state, base)  # nothing is left to do
    log = (state / "training.log").read_text()
    assert log.count("clips rendered and encoded") == 1
    for way in get_task(name).WAYS:
        assert log.count(f"] {way}: kept ") == 1
        assert (state / f"{way}.png").exists()

    export_task(get_task(name), state, folder, base)
    assert not (folder / "vae").exists() and not (folder / "text_encoder").exists()
    pipeline = loaded(PIPELINES[name], folder, base)
    picture = Image.new("RGB", (SIZE, SIZE), "red")
    given = {
        "wan_i2v": {"image": picture, "last_image": picture},
        "wan_vace": {"video": [picture] * 9, "reference_images": [picture]},
    }[name]
    (frames,) = pipeline(prompt=PROMPT, **ASKED, **given)
    assert np.isfinite(frames).all()
    assert frames.shape[0] == 1 and frames.shape[2:] == (SIZE, SIZE, 3)

    settings = Settings(root=tmp_path / "root", gpu="cpu")
    shipped = settings.root / "ckpts" / "demo"
    shutil.copytree(base, shipped / "wan")
    shutil.copytree(folder, shipped / name)
    settings.media.mkdir(parents=True)
    picture.save(settings.media / "red.png")
    red, clip = str(settings.media / "red.png"), settings.media / "clip.mp4"
    with VideoWriter(clip, width=SIZE, height=SIZE, fps=16.0, tags={}) as video:
        video.write(np.zeros((9, SIZE, SIZE, 3), np.uint8))
    row = get_variant(get_task(name).VARIANT)
    resident = ResidentModel(settings)
    made = make_video(
        resident.get(row, Progress("test")),
        PROMPT,
        settings=settings,
        width=SIZE,
        height=SIZE,
        num_frames=9,
        num_inference_steps=2,
        seed=0,
        **{
            "wan_i2v": {"image_start": red, "image_end": red},
            "wan_vace": {
                "control_video": str(clip),
                "control_mask": red,
                "image_refs": [red],
            },
        }[name],
    )
    resident.release()
    assert made.shape == (9, SIZE, SIZE, 3)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_begins_as_its_base(base, clips, name):
    kind, task = wan, get_task(name)
    parts = adapt.load_base(kind, base, "cpu")
    transformer = task.make_transformer(parts.denoiser.transformer)
    way = next(way for way in task.WAYS if way != "reference")
    shown = show_all(kind, task, parts.vae, way, clips, random.Random(0))
    shown.condition = shown.condition.float()
    noisy, levels = torch.randn(2, 48, 3, 4, 4), torch.tensor([0.3, 0.8])
    text = parts.denoiser.embed(*parts.denoiser.tokens([PROMPT, "a cube"]))
    with torch.no_grad():
        made = task.velocity(transformer, noisy, levels, text, shown)
        plain = kind.velocity(parts.denoiser.transformer, noisy, levels[:, None], text)
    torch.testing.assert_close(made, plain)


def test_a_cut_training_goes_on(tiny, base, tmp_path, monkeypatch):
    state = tmp_path / "state"
    run(monkeypatch, "wan_i2v", state, base, "--minutes", "0")
    assert not (state / "progress.json").exists()
    monkeypatch.setattr("demo.pairs.PARTS", 1)
    run(monkeypatch, "wan_i2v", state, base, "--minutes", "0.004")
    assert not (state / "transformer.safetensors").exists()
    run(monkeypatch, "wan_i2v", state, base)
    assert (state / "transformer.safetensors").exists()
    assert len(list((state / "pairs").iterdir())) == 1
