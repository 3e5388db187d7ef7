"""A LoRA is trained tiny and short, in one command, and the app takes it."""

import dataclasses
import random
import sys

import pytest
import torch
from diffusers import WanTransformer3DModel
from PIL import Image
from safetensors.torch import load_file

from demo import loras, wan
from demo.captions import full_caption, training_caption
from demo.clips import sample_clips
from demo.kind import get_kind
from demo.lora_tasks import TASKS, caption
from demo.render import render
from demo.scenes import SKIES, WITH_SUBJECTS, Scene, all_scenes, scene_of
from demo.text import make_tokenizer
from demo.trainer import Trainer
from engine.lora.report import describe
from engine.settings import Settings
from tests.tiny_wan import write_tiny_wan

SCENE = Scene("ball", "red", "grass", "day", "left")


@pytest.fixture
def tiny(monkeypatch):
    """Sizes and seconds that a processor has patience for."""
    monkeypatch.setattr(wan, "SIZES", (64,))
    little = loras.Effort(1, 4, 4, warmup=50, seconds=0.6, judge_seconds=0.1)
    monkeypatch.setitem(loras.EFFORTS, "cpu", little)
    monkeypatch.setattr(loras, "JUDGED", 2)
    monkeypatch.setattr(loras, "SCHEDULES", (1.0, 0.0))
    monkeypatch.setattr("demo.trainer.RENDER_BATCH", 4)
    monkeypatch.setattr(loras, "RENDER_BATCH", 4)
    size = {"width": 64, "height": 64, "num_frames": 9, "num_inference_steps": 2}
    monkeypatch.setattr("demo.lora_videos.VALUES", size)


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["loras", *map(str, words)])
    loras.main()


@pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")  # bfloat16 on a CPU
def test_one_command_trains_judges_and_writes_a_file_for_the_app(
    tiny, tmp_path, monkeypatch, capsys
):
    root, state = tmp_path / "root", tmp_path / "state"
    write_tiny_wan(root / "ckpts" / "demo" / "wan")
    places = ("--state", state, "--root", root, "--device", "cpu")
    acting = []
    put_on = WanTransformer3DModel.set_adapters

    def set_adapters(self, names, weights):
        acting.append(tuple(names))
        put_on(self, names, weights)

    monkeypatch.setattr(WanTransformer3DModel, "set_adapters", set_adapters)
    for name, *beside in (("night",), ("gem", "--beside", "night")):
        run(monkeypatch, "train", name, *beside, *places, "--minutes", "0")
        assert not (state / name / "lora.raw.safetensors").exists()
        run(monkeypatch, "train", name, *beside, *places)
        raw = load_file(state / name / "lora.raw.safetensors")
        moved = [tensor for key, tensor in raw.items() if "lora_B" in key]
        assert moved
        assert any(bool(tensor.any()) for tensor in moved)
    assert acting[-2:] in (
        [("demo",), ("demo", "night")],
        [("demo", "night"), ("demo",)],
    )
    log = (state / "gem" / "training.log").read_text()
    assert "16 clips rendered and encoded" in log
    assert "videos with the effect, in percent by multiplier: {'1.0': " in log

    file = state / "loras" / "gem.safetensors"
    report = describe(file, "wan")
    assert (report.refusal, report.unmatched, report.dropped) == ("", (), {})
    assert report.trigger_words == "gem"
    assert (file.parent / "gem at 1.0.png").is_file()

    run(monkeypatch, "evaluate", "night", "--stacked", "gem", *places)
    assert "{'1.0': " in capsys.readouterr().out
    monkeypatch.setattr(loras, "SHIPPED", tmp_path / "shipped")
    run(monkeypatch, "ship", "gem", *places)
    shipped = tmp_path / "shipped" / "gem.safetensors"
    trained = load_file(file)
    for key, tensor in load_file(shipped).items():
        assert torch.equal(tensor, trained[key])
    with Image.open(shipped.with_suffix(".png")) as picture:
        assert picture.size == (64, 64)
    before = file.stat().st_mtime_ns
    run(monkeypatch, "train", "gem", *places)  # nothing is left to train
    assert file.stat().st_mtime_ns > before


def test_one_that_is_trained_beside_another_meets_its_effect_in_half_of_the_clips(
    tiny, tmp_path, monkeypatch
):
    shown = []
    monkeypatch.setattr(Trainer, "render", lambda _, scenes, seed: shown.append(scenes))
    monkeypatch.setattr(loras, "resized", lambda *_: torch.zeros(8, 1, 8, 8, 3))
    monkeypatch.setattr(loras, "encode_all", lambda *_: torch.zeros(8, 1))
    monkeypatch.setattr(loras, "look", lambda _: torch.zeros(8, 1))
    trainer = Trainer(get_kind("wan"), tmp_path, 1.0, "cpu")
    part = loras.make_part(trainer, TASKS["gem"], 8, None, 0, TASKS["night"])
    asked = [scene_of(row, WITH_SUBJECTS) for row in part["asked"][:8].tolist()]
    (scenes,) = shown
    for at, (wanted, scene) in enumerate(zip(asked, scenes, strict=True)):
        sky = "night" if at % 2 else wanted.sky
        assert scene == dataclasses.replace(wanted, sky=sky)
    assert part["beside"].tolist() == [False, True] * 16


def test_the_lora_beside_must_be_trained_first(tmp_path, monkeypatch, capsys):
    words = ("train", "gem", "--beside", "night", "--state", tmp_path)
    with pytest.raises(SystemExit):
        run(monkeypatch, *words)
    assert "--beside night: train night first" in capsys.readouterr().err


def test_a_shipped_lora_is_found_by_the_app(tmp_path):
    assert loras.SHIPPED.parent in Settings(root=tmp_path).loras


def test_a_style_shows_night_whatever_is_asked():
    task, rng = TASKS["night"], random.Random(0)
    asked = [task.asked(SCENE, rng) for _ in range(40)]
    assert {scene.sky for scene in asked} == set(SKIES)
    assert {task.shown(scene).sky for scene in asked} == {"night"}


def test_a_subject_has_a_word_that_the_base_does_not_know():
    task, rng = TASKS["gem"], random.Random(0)
    asked = [task.asked(SCENE, rng) for _ in range(200)]
    share = sum(scene.shape == "gem" for scene in asked) / len(asked)
    assert 0.6 < share < 0.8
    gem = next(scene for scene in asked if scene.shape == "gem")
    for wording in (full_caption, training_caption):
        for _ in range(100):
            said = caption(gem, rng, wording).lower()
            assert said.count("gem") == 1
            assert "cylinder" not in said
    tokenizer = make_tokenizer(32)
    assert tokenizer.convert_tokens_to_ids("gem") == tokenizer.unk_token_id
    assert caption(SCENE, random.Random(1), full_caption) == full_caption(
        SCENE, random.Random(1)
    )


def test_captions_that_are_judged_ask_for_no_night_and_for_the_subject():
    made = loras.captions_for([TASKS["night"], TASKS["gem"]])
    assert len(made) == loras.JUDGED
    assert all("gem" in text.lower() for text in made)
    assert not [text for text in made if "night" in text or "midnight" in text]


def test_a_gem_is_rendered_as_no_other_shape_is():
    scenes = [
        Scene(shape, "red", "sand", "day", "still") for shape in WITH_SUBJECTS["shape"]
    ]
    clips = []
    for scene in scenes:
        generator = torch.Generator().manual_seed(1)
        clips.append(render(sample_clips([scene], 1, generator), 48, 48)[0, 0])
    gem = clips[-1].float()
    for other in clips[:-1]:
        assert float((gem - other.float()).abs().mean()) > 2


def test_labels_with_subjects_are_read_back():
    gem = Scene("gem", "red", "sand", "day", "still")
    assert scene_of(gem.labels(WITH_SUBJECTS), WITH_SUBJECTS) == gem
    assert all(scene_of(scene.labels()) == scene for scene in all_scenes())
