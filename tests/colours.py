"""What the small models of all families are asked alike: the colours of the prompt."""

import torch

from demo.evaluate import make_video, score
from demo.judge import Judge
from demo.scenes import COLOURS, Scene
from engine.family import LoadedModel


def colours_right(model: LoadedModel, judge: Judge, **values: object) -> float:
    """Percent of all colours that the judge reads where the prompt says so."""
    scenes = [Scene("cube", colour, "sand", "day", "spinning") for colour in COLOURS]
    clips = [
        make_video(
            model, f"a {s.colour} cube spinning on sand at day", seed=seed, **values
        )
        for seed, s in enumerate(scenes)
    ]
    return score(judge, torch.stack(clips), scenes)["colour"]
