import json

import pytest
from pydantic import ValidationError

from engine.request import Condition, GenerationRequest

REQUEST = GenerationRequest(model="wan-demo", prompt='é "quoted"', seed=3, width=256)


def test_json_holds_what_was_set_and_the_schema():
    stored = json.loads(REQUEST.to_json())
    assert stored == {
        "schema": 1,
        "model": "wan-demo",
        "prompt": 'é "quoted"',
        "width": 256,
        "seed": 3,
    }
    assert "\n" not in REQUEST.to_json()


def test_json_becomes_the_same_request_again():
    assert GenerationRequest.model_validate_json(REQUEST.to_json()) == REQUEST


def test_replaced_values_are_checked():
    assert REQUEST.with_values(seed=4).seed == 4
    assert REQUEST.seed == 3
    with pytest.raises(ValidationError):
        REQUEST.with_values(seed="four")


def test_media_fields_are_fields():
    assert set(GenerationRequest.MEDIA_FIELDS) <= set(GenerationRequest.model_fields)


def test_pinned_media_become_the_same_again():
    pinned = [
        Condition(file="a.png", frame_index=0),
        Condition(file="b.mp4", frame_index=-1, strength=0.5),
    ]
    request = REQUEST.with_values(conditions=pinned)
    assert json.loads(request.to_json())["conditions"] == [
        {"file": "a.png", "frame_index": 0},
        {"file": "b.mp4", "frame_index": -1, "strength": 0.5},
    ]
    assert GenerationRequest.model_validate_json(request.to_json()) == request


@pytest.mark.parametrize(
    ("frame_index", "first"), [(0, 0), (8, 8), (-1, 32), (-33, 0), (-34, -1)]
)
def test_a_negative_frame_counts_from_the_end(frame_index, first):
    condition = Condition(file="a.png", frame_index=frame_index)
    assert condition.first_frame(33) == first
