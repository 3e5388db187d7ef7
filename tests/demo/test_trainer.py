"""A training can be ended at any moment and goes on from there."""

import json

import pytest
import torch
from torch import nn

from demo import wan
from demo.denoiser import Batch, Denoiser, flow_loss
from demo.kind import Text
from demo.scenes import split_scenes
from demo.trainer import RENDER_BATCH, Trainer, replacing


def trainer(folder, minutes=1.0) -> Trainer:
    return Trainer(wan, folder, minutes, "cpu")


def test_weights_and_seconds_come_back(tmp_path):
    first = trainer(tmp_path)
    model, average = nn.Linear(3, 2), nn.Linear(3, 2)
    first.save("denoiser", model, average)
    first.done("denoiser", 12.5)
    again = trainer(tmp_path)
    resumed, resumed_average = nn.Linear(3, 2), nn.Linear(3, 2)
    again.load("denoiser", resumed, resumed_average)
    assert again.spent("denoiser") == 12.5
    assert torch.equal(resumed.weight, model.weight)
    torch.testing.assert_close(
        resumed_average.weight, average.weight, rtol=1e-2, atol=1e-2
    )
    assert not list(tmp_path.glob("*.part"))


def test_the_average_is_enough_to_go_on(tmp_path):
    average = nn.Linear(3, 2)
    trainer(tmp_path).save("vae", nn.Linear(3, 2), average)
    (tmp_path / "vae.raw.safetensors").unlink()
    model, ema = nn.Linear(3, 2), nn.Linear(3, 2)
    trainer(tmp_path).load("vae", model, ema)
    assert torch.equal(model.weight, ema.weight)


def test_the_log_is_kept(tmp_path):
    trainer(tmp_path).log("one")
    trainer(tmp_path).log("two")
    lines = (tmp_path / "training.log").read_text().splitlines()
    assert [line.split("] ")[1] for line in lines] == ["one", "two"]
    trainer(tmp_path).done("vae", 3.0)
    assert json.loads((tmp_path / "progress.json").read_text()) == {"vae": 3.0}


def test_the_clock_ends_a_call(tmp_path):
    assert trainer(tmp_path, minutes=0.0).is_over()
    assert not trainer(tmp_path, minutes=1.0).is_over()


def test_clips_are_rendered_in_whole_batches(tmp_path, monkeypatch):
    rendered = []

    def render(clip, height, width):
        rendered.append(len(clip.shape))
        return torch.zeros(len(clip.shape), 1, 2, 2, 3, dtype=torch.uint8)

    monkeypatch.setattr("demo.trainer.render", render)
    clips, scenes = trainer(tmp_path).clips(split_scenes()[0], 3, seed=0)
    assert rendered == [RENDER_BATCH]
    assert len(clips) == len(scenes) == 3


class Echo(Denoiser):
    """Predicts zero, and notes the noise levels that it is shown."""

    def embed(self, ids, mask):
        return Text(torch.zeros(len(ids), 1, 1), mask)

    def velocity(self, noisy, levels, text, pin=None):
        self.levels, self.noisy = levels, noisy
        return torch.zeros_like(noisy)


def test_given_frames_are_shown_clean_and_cost_nothing():
    torch.manual_seed(0)
    echo = Echo(wan, nn.Identity(), nn.Identity(), None)
    latents = torch.randn(2, 4, 3, 2, 2)
    ids = mask = torch.ones(2, 4, dtype=torch.long)
    flow_loss(echo, Batch(latents, ids, mask, first=1), None)
    assert (echo.levels[:, 0] == 0).all()
    assert (echo.levels[:, 1:] > 0).all()
    difference = (echo.noisy - latents).abs().mean((0, 1, 3, 4))
    assert difference[0] < 0.2 < difference[1]


def test_what_a_killed_call_left_half_written_does_no_harm(tmp_path):
    file, folder = tmp_path / "progress.json", tmp_path / "vae"
    file.write_text("whole")

    def killed() -> None:
        with replacing(file) as part:
            part.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert file.read_text() == "whole"
    (tmp_path / "vae.part").mkdir()
    (tmp_path / "vae.part" / "half").touch()
    with replacing(folder) as part:
        part.mkdir()
        (part / "whole").touch()
    assert [each.name for each in folder.iterdir()] == ["whole"]
