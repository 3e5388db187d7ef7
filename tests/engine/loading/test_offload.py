import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from engine.errors import UserError
from engine.loading.offload import (
    _place_by_streaming,
    budgets_of,
    choose_device,
    choose_dtype,
    component_sizes,
    keep_precision,
)
from engine.loading.placement import GIB, choose_placement
from engine.settings import PROJECT, Settings
from tests.tiny_wan import make_transformer, make_vae

SMALL = {"text_encoder": 11 * GIB, "transformer": 3 * GIB, "vae": GIB}
LARGE = {"text_encoder": 11 * GIB, "transformer": 28 * GIB, "vae": GIB}


@pytest.mark.parametrize(
    ("sizes", "free_vram", "free_ram", "profile", "in_8_bits"),
    [
        (SMALL, 79, 100, None, None),
        (LARGE, 79, 100, None, None),
        (LARGE, 45, 100, 6, 1),
        (SMALL, 24, 64, 6, 1),
        (SMALL, 24, 8, 3, 3),
        (SMALL, 12, 64, 6, 2),
        (LARGE, 24, 64, 6, 2),
        (LARGE, 24, 32, 4, 4),
        (LARGE, 8, 16, 5, 5),
        (SMALL, 6, 2, 5, 5),
    ],
)
def test_auto_takes_the_fastest_profile_that_fits(
    sizes, free_vram, free_ram, profile, in_8_bits
):
    """Weights in 8 bits are mmgp's."""
    free = (free_vram * GIB, free_ram * GIB)
    placement = choose_placement("auto", sizes, *free)
    assert placement.profile == profile
    assert f"{free_vram}.0 GiB" in placement.reason
    placement = choose_placement("auto", sizes, *free, streamable=False)
    assert placement.profile == in_8_bits


@pytest.mark.parametrize("profile", ["1", "2", "3", "4", "5", "6"])
def test_a_profile_in_the_settings_is_taken_as_it_is(profile):
    placement = choose_placement(profile, LARGE, 79 * GIB, GIB)
    assert placement.profile == int(profile)


def test_the_cpu_can_be_chosen_and_an_absent_device_is_named(tmp_path):
    assert choose_device(Settings(root=tmp_path, gpu="cpu")) == "cpu"
    with pytest.raises(UserError, match=r"no device 'cuda:7' .* it has .*cpu"):
        choose_device(Settings(root=tmp_path, gpu="cuda:7"))
    with pytest.raises(UserError, match="no device 'first'"):
        choose_device(Settings(root=tmp_path, gpu="first"))


def test_a_cpu_computes_in_float32():
    assert choose_dtype("cpu") == "float32"
    assert choose_dtype("cuda:1") == "bfloat16"


def test_sizes_are_counted_per_component():
    components = {"transformer": torch.nn.Linear(4, 2), "tokenizer": object()}
    pipeline = SimpleNamespace(components=components)
    assert component_sizes(pipeline) == {"transformer": (4 * 2 + 2) * 4}


def test_every_module_keeps_its_precision_under_mmgp():
    transformer = make_transformer().to(torch.bfloat16)
    vae = make_vae(patched=True)
    for component in (transformer, vae):
        keep_precision(component)
        assert all(
            module._lock_dtype == torch.float32 for module in component.modules()
        )
    assert transformer._convertWeightsFloatTo == torch.bfloat16
    assert vae._convertWeightsFloatTo == torch.float32


def test_both_transformers_of_a_pair_are_streamed_alike():
    pair = SimpleNamespace(transformer=object(), transformer_2=object())
    for profile in (2, 4, 5):
        budgets = budgets_of(pair, profile)["budgets"]
        assert budgets["transformer"] == budgets["transformer_2"]
    assert budgets_of(pair, 1) == {}
    assert budgets_of(SimpleNamespace(transformer=object()), 2) == {}


@pytest.mark.parametrize(
    ("free", "working", "left"),
    [(8 * GIB, GIB, 8 * GIB), (8 * GIB, 9 * GIB, math.inf), (0, 0, math.inf)],
    ids=["all fits", "the video takes more than is free", "nothing is free"],
)
def test_a_streamed_model_says_what_it_leaves_to_a_video(
    tmp_path, monkeypatch, free, working, left
):
    """Where no block stays on the GPU, loading it anew could leave no more."""
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (free, 24 * GIB))
    networks = {"transformer": make_transformer(), "vae": make_vae(patched=False)}
    pipeline = SimpleNamespace(components=networks, **networks)
    model = _place_by_streaming(None, pipeline, "cpu", Settings(root=tmp_path), working)
    assert model.working == left


def test_no_memory_profile_changes_a_result(tmp_path):
    program = [sys.executable, "-m", "tests.fake_cuda", str(tmp_path)]
    done = subprocess.run(
        program, capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 0, done.stderr
    rows = (
        *("wan-demo", "wan2.1-i2v-14b-480p", "wan2.2-i2v-a14b", "wan2.2-ti2v-5b"),
        *("hyvideo-demo", "hunyuan-video-i2v"),
        *("hunyuan-video-1.5-i2v-480p", "framepack-i2v"),
    )
    expected = [f"{row}, profile {n}: same" for row in rows for n in "123456"]
    expected += [f"int8, profile {profile}: same" for profile in "12345"]
    # mmgp's greeting must not be among the lines: stdout belongs to the app.
    assert done.stdout.splitlines() == [*expected, "default device: cpu"]
