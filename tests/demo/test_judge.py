"""The judge's eyes, and its file."""

import torch

from demo.evaluate import score
from demo.judge import (
    FRAMES,
    SIZE,
    Judge,
    load_judge,
    look,
    read_attributes,
    save_judge,
)
from demo.scenes import split_scenes


def test_it_sees_the_first_and_the_last_frame():
    clips = torch.zeros(1, 33, 64, 64, 3, dtype=torch.uint8)
    clips[:, 0] = 50
    clips[:, -1] = 200
    seen = look(clips)
    assert seen.shape == (1, 3 * FRAMES, SIZE, SIZE)
    assert (seen[0, :3] == 50).all()
    assert (seen[0, -3:] == 200).all()


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
