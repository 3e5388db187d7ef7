"""Names of LoRAs that name no file."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import MissingWeights
from engine.lora.files import find_lora
from engine.settings import Settings


@pytest.mark.parametrize("name", [".", "", "./"])
def test_a_name_of_no_file_is_a_lora_that_is_missing(name: str, tmp_path: Path) -> None:
    (tmp_path / "wan").mkdir()
    (tmp_path / "wan" / "night.safetensors").touch()
    settings = Settings(lora_dir=tmp_path)
    with pytest.raises(MissingWeights, match="no LoRA of this family is called"):
        find_lora(name, "wan", settings)
