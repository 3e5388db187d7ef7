import json
import math

import pytest
import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    dispatch_attention_fn,
)

from engine.attention.measure import automatic, fastest, measured
from engine.attention.registry import BACKENDS, Machine, available

H100 = Machine((9, 0), {"sageattention": "2.2.0", "flash-attn": "2.8.3"})
CANDIDATES = automatic(available(H100, masks=False))


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"sdpa": 1.0, "flash": 0.9}, "flash"),
        ({"sdpa": 1.0, "flash": 0.97}, "sdpa"),  # within what timings differ by
        ({"sdpa": 1.0, "sage": 0.1}, "sdpa"),  # not exact
        ({"sdpa": 1.0, "flash": math.inf}, "sdpa"),
        ({"sdpa": math.inf, "sdpa-efficient": 2.0}, "sdpa-efficient"),
        ({}, "sdpa"),
    ],
)
def test_auto_takes_the_fastest_exact_one(seconds, chosen):
    assert fastest(CANDIDATES, seconds).name == chosen


def test_auto_tries_no_8_bit_attention_and_no_slow_one():
    names = [each.name for each in automatic(BACKENDS)]
    assert names[0] == "sdpa"
    assert not {"sage", "sdpa-math", "flash4"} & set(names)


def test_each_machine_is_measured_once(tmp_path):
    file = tmp_path / "new" / "attention.json"
    runs = []

    def time_all():
        runs.append(1)
        return {"sdpa": 0.0123, "flash": math.inf}

    first = measured(file, "H100, torch 2.11", time_all)
    assert measured(file, "H100, torch 2.11", time_all) == first
    assert first == {"sdpa": 0.0123, "flash": math.inf}
    assert len(runs) == 1
    measured(file, "H100, torch 2.12", time_all)
    assert len(runs) == 2
    assert list(json.loads(file.read_text())) == [
        "H100, torch 2.11",
        "H100, torch 2.12",
    ]
    assert [each.name for each in file.parent.iterdir()] == ["attention.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"a": 3}', '{"a": {"sdpa": "x"}}'])
def test_a_spoilt_file_is_measured_again(tmp_path, content):
    file = tmp_path / "attention.json"
    file.write_text(content)
    assert measured(file, "a", lambda: {"sdpa": 1.0}) == {"sdpa": 1.0}
    assert json.loads(file.read_text()) == {"a": {"sdpa": 1.0}}


def test_a_folder_that_refuses_files_only_costs_the_measurement(tmp_path):
    (tmp_path / "file").touch()
    file = tmp_path / "file" / "attention.json"
    assert measured(file, "a", lambda: {"sdpa": 1.0}) == {"sdpa": 1.0}


def test_exact_backends_give_the_same_but_for_rounding():
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(1, 96, 2, 32, generator=generator) for _ in range(3)]
    names = ["native", "_native_math", "_native_flash"]
    results = [
        dispatch_attention_fn(*inputs, backend=AttentionBackendName(name))
        for name in names
    ]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-5, atol=1e-6)
