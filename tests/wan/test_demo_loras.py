"""The app's own LoRAs do what they say. Judged by looking at the frames."""

import pytest
import torch

from demo import lora_videos, loras
from demo.judge import load_judge, read_attributes
from demo.scenes import ATTRIBUTES
from engine.settings import Settings

pytestmark = pytest.mark.demo

NIGHT, GEM = "night.safetensors", "gem.safetensors"
BY_DAY = [
    "a blue cube spinning on grass at day",
    "a red ball moving left on sand at day",
]
GEMS = ["a red gem standing still on snow at day", "a red gem spinning on grass at day"]


@pytest.fixture
def videos(monkeypatch):
    def make(captions, *listed, frames, steps):
        values = {"num_frames": frames, "num_inference_steps": steps}
        monkeypatch.setattr(lora_videos, "VALUES", values)
        settings = Settings(gpu="cpu")
        return lora_videos.make_videos(captions, listed, loras.SHIPPED, settings)

    return make


def skies(clips):
    found = read_attributes(load_judge(loras.JUDGE), clips)
    return [ATTRIBUTES["sky"][at] for at in found[:, [*ATTRIBUTES].index("sky")]]


def pointedness(clip):
    """How narrow the red thing in the middle frame is at a tenth of its height, beside
    its middle: 1 where both are as wide."""
    red, green, blue = clip[len(clip) // 2].float().unbind(-1)
    widths = ((red > 1.5 * green) & (red > 1.5 * blue) & (red > 50)).sum(1)
    rows = (widths > 2).nonzero().flatten()
    top, height = int(rows[0]), int(rows[-1] - rows[0])
    assert height > 40, "nothing red in the frame"
    return float(widths[top + height // 10] / widths[top + height // 2])


def test_night_falls_whatever_the_prompt_says_and_by_as_much_as_the_schedule(videos):
    def brightness(clips):
        return float(clips[:, :, :80].float().mean())

    short = {"frames": 9, "steps": 8}
    without = videos(BY_DAY, **short)
    assert "night" not in skies(without)
    assert torch.equal(videos(BY_DAY, (NIGHT, 0.0), **short), without)
    always = videos(BY_DAY, (NIGHT, 1.0), **short)
    assert skies(always) == ["night", "night"]
    at_first = videos(BY_DAY, (NIGHT, "1,0"), **short)
    assert brightness(always) < brightness(at_first) < brightness(without)


def test_a_gem_is_pointed_also_at_night_and_nothing_without_its_lora(videos):
    longer = {"frames": 17, "steps": 12}
    for clip in videos(GEMS, **longer):
        assert pointedness(clip) > 0.6
    for clip in videos(GEMS, (GEM, 1.0), **longer):
        assert pointedness(clip) < 0.55
    both = videos(GEMS, (NIGHT, 1.0), (GEM, 1.0), **longer)
    assert skies(both) == ["night", "night"]
    assert max(map(pointedness, both)) < 0.55
