"""The benchmark of LoRAs runs through at tiny sizes without a GPU, so that it doesn't
fail at its first use on one."""

import pytest

from bench import gpu_lora
from engine.lora import apply


# diffusers lets peft warn of what it does itself: several LoRAs on one network.
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.parametrize("run", ["merged", "peft", "diffusers"])
def test_every_kind_of_run_fills_the_table(run, monkeypatch):
    monkeypatch.setattr(apply, "merges", apply.merges)  # put back afterwards
    rows = list(gpu_lora.measure(run, [1, 2], "cpu", tiny=True))
    assert [row["LoRAs"] for row in rows] == [1, 2]
    for row in rows:
        assert tuple(row) == gpu_lora.COLUMNS
        assert row["step"] > 0
        assert row["put on"] > 0
