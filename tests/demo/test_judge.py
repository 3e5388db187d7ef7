"""The judge's eyes, and its file."""

import torch

from demo.evaluate import score
from demo.judge import (
    CHANNELS,
    FRAMES,
    SIZE,
    Judge,
    load_judge,
    look,
    read_attributes,
    save_judge,
)
from demo.scenes import split_scenes


def test_it_sees_every_frame_in_grey_and_three_in_colour():
    clips = torch.zeros(1, 33, 64, 64, 3, dtype=torch.uint8)
    clips[0] = torch.arange(33).view(33, 1, 1, 1)
    clips[:, -1] = torch.tensor([30, 60, 90])
    seen = look(clips)
    assert seen.shape == (1, CHANNELS, SIZE, SIZE)
    grey, coloured = seen[0, :FRAMES, 0, 0].tolist(), seen[0, FRAMES:, 0, 0].tolist()
    assert grey == [*range(32), 60]
    assert coloured == [0, 0, 0, 16, 16, 16, 30, 60, 90]


def test_it_reads_the_same_after_saving(tmp_path):
    torch.manual_seed(0)
    judge = Judge().half().float().eval()
    save_judge(judge, tmp_path / "judge.safetensors")
    clips = torch.randint(0, 256, (3, 33, 32, 32, 3), dtype=torch.uint8)
    again = load_judge(tmp_path / "judge.safetensors")
    assert torch.equal(read_attributes(judge, clips), read_attributes(again, clips))


def test_the_score_counts_each_attribute_and_all_of_them(monkeypatch):
    scenes = split_scenes()[1][:4]
    labels = torch.tensor([scene.labels() for scene in scenes])
    labels[0, 0] = (labels[0, 0] + 1) % 5
    monkeypatch.setattr("demo.evaluate.read_attributes", lambda _judge, _clips: labels)
    figures = score(Judge(), torch.zeros(4, 1), scenes)
    assert figures == {
        "shape": 75.0,
        "colour": 100.0,
        "floor": 100.0,
        "sky": 100.0,
        "motion": 100.0,
        "all": 75.0,
    }
