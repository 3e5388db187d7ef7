from dataclasses import replace

import pytest

from engine.family import WeightFile, get_variant
from engine.loading.precision import GB, choose_files, free_memory

BF16 = WeightFile("r", "bf16.safetensors", 26)
INT8 = WeightFile("r", "int8.safetensors", 13, precision="int8")
VAE = WeightFile("r", "vae.safetensors", 2)
TEXT_ENCODER = WeightFile("r", "text_encoder", 10)
ROW = replace(
    get_variant("wan-demo"),
    files={"transformer": (BF16, INT8), "vae": (VAE,), "text_encoder": (TEXT_ENCODER,)},
)


@pytest.mark.parametrize(
    ("free_vram", "free_ram", "transformer"),
    [
        (80, 128, BF16),
        (47, 64, BF16),
        (47, 32, INT8),  # 38 GB don't pass through 32 GB of main memory
        (24, 64, INT8),  # the GPU holds 13 GB and room to work, not 26 GB
        (12, 64, INT8),  # it holds neither: the smaller one streams faster
        (8, 16, INT8),
        (None, 64, BF16),  # a CPU computes in full precision anyway
        (None, 32, INT8),
    ],
)
def test_the_best_precision_that_fits_is_chosen(free_vram, free_ram, transformer):
    vram = None if free_vram is None else free_vram * GB
    assert choose_files(ROW, vram, free_ram * GB) == {
        "transformer": transformer,
        "vae": VAE,
        "text_encoder": TEXT_ENCODER,
    }


def test_a_file_that_holds_two_components_counts_once():
    both = replace(ROW, files={"transformer": (BF16, INT8), "vae": (BF16, INT8)})
    assert choose_files(both, None, 30 * GB)["transformer"] == BF16


def test_what_a_row_has_from_its_base_needs_room_too():
    row = replace(ROW, files={"transformer": (BF16, INT8)}, gigabytes=50)
    based = replace(row, base_folder="base")
    assert (row.base_gigabytes, based.base_gigabytes) == (0, 24)
    for free_ram, transformer in ((49, INT8), (50, BF16)):
        assert choose_files(based, None, free_ram * GB)["transformer"] == transformer
    assert choose_files(row, None, 49 * GB)["transformer"] == BF16


def test_a_row_without_files_has_nothing_to_choose():
    assert choose_files(get_variant("wan-demo"), None, 0) == {}


def test_a_cpu_has_no_gpu_memory():
    free_vram, free_ram = free_memory("cpu")
    assert free_vram is None
    assert free_ram > 0
