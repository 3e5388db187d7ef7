"""From a component's folder to its diffusers or transformers class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.errors import UnreadableFile


def load_component(kind: Any, folder: Path, dtype: str) -> Any:
    """The network of class ``kind`` in ``folder``, in evaluation mode, on the CPU.

    ``dtype`` is torch's name of its precision; modules that the class keeps in
    float32 stay so. Raises ``UnreadableFile`` that names what doesn't fit.
    """
    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()  # the engine shows progress
    try:
        model, loaded = kind.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _unreadable(folder, error) from error
    except RuntimeError as error:  # tensors of another size
        if "size mismatch" not in str(error) and "mismatched" not in str(error):
            raise
        raise _unreadable(folder, error) from error
    # Without this, from_pretrained fills what is missing with random numbers.
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise UnreadableFile(
            f"{folder} lacks {len(missing)} tensors, among them {missing[0]}: get its "
            "files again"
        )
    return model.eval()


def load_tokenizer(kind: Any, folder: Path) -> Any:
    """The tokenizer in ``folder``; raises ``UnreadableFile``."""
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> UnreadableFile:
    reason = str(error).strip().splitlines()
    return UnreadableFile(
        f"can't load {folder}: {reason[0] if reason else type(error).__name__}. Get "
        "its files again"
    )
