"""Weights of a GGUF file as numbers, by diffusers' own code for its precisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.loading.header import damaged

if TYPE_CHECKING:
    import torch


def open_gguf(file: Path) -> dict[str, Any]:
    """Its tensors by name, mapped into memory; see ``to_numbers``. The header must have
    been checked. Raises ``UnreadableFile``."""
    from gguf import GGUFReader

    try:
        return {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    except (ValueError, IndexError, KeyError) as error:
        raise damaged(file, f"its header can't be read ({error})") from error


def to_numbers(tensor: Any) -> torch.Tensor:
    """A tensor of GGUF's reader in float32, or in half precision if it is stored so."""
    import numpy as np
    import torch
    from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_gguf_tensor
    from gguf import GGMLQuantizationType

    content = torch.from_numpy(np.array(tensor.data))
    plain = {GGMLQuantizationType.F32, GGMLQuantizationType.F16}
    if tensor.tensor_type in plain:
        return content
    if tensor.tensor_type == GGMLQuantizationType.BF16:
        return content.view(torch.bfloat16)
    parameter = GGUFParameter(content, quant_type=tensor.tensor_type)
    numbers: torch.Tensor = dequantize_gguf_tensor(parameter)
    return numbers.float()
