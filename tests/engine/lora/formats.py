"""One LoRA written in the formats that trainers write."""

import torch

from tests.engine.lora.networks import Change

PEFT = ("lora_A.weight", "lora_B.weight")
KOHYA = ("lora_down.weight", "lora_up.weight")


def written(changes: dict[str, Change], prefix: str, names=PEFT, *, alpha=None):
    """With an ``alpha`` that isn't the rank, ``up`` is written larger."""
    tensors = {}
    for name, change in changes.items():
        rank = len(change.down)
        factor = 1.0 if alpha is None else rank / alpha
        tensors[f"{prefix}{name}.{names[0]}"] = change.down.clone()
        tensors[f"{prefix}{name}.{names[1]}"] = change.up * factor
        if alpha is not None:
            tensors[f"{prefix}{name}.alpha"] = torch.tensor(float(alpha))
    return tensors


def flat(changes: dict[str, Change]) -> dict[str, Change]:
    return {name.replace(".", "_"): change for name, change in changes.items()}


def own_formats(changes):
    """In diffusers' names."""
    return {
        "diffusers": written(changes, "transformer."),
        "diffusers, down and up, alpha": written(
            changes, "transformer.", KOHYA, alpha=2.0
        ),
        "PEFT": written(
            changes,
            "base_model.model.",
            ("lora_A.default.weight", "lora_B.default.weight"),
        ),
        "bare": written(changes, ""),
        "bare, alpha": written(changes, "", alpha=1.0),
        "kohya, diffusers' names": written(
            flat(changes), "lora_unet_", KOHYA, alpha=2.0
        ),
        "fp16": {name: tensor.half() for name, tensor in written(changes, "").items()},
    }


def authors_formats(changes):
    """In the authors' names."""
    return {
        "ComfyUI": written(changes, "diffusion_model."),
        "ComfyUI, alpha": written(changes, "diffusion_model.", alpha=2.0),
        "ComfyUI, down and up": written(changes, "diffusion_model.", KOHYA),
        "ComfyUI, down and up, alpha": written(
            changes, "diffusion_model.", KOHYA, alpha=8.0
        ),
        "musubi": written(flat(changes), "lora_unet_", KOHYA, alpha=2.0),
        "authors' names, bare": written(changes, ""),
        "authors' names after transformer.": written(changes, "transformer."),
        "DiffSynth": written(
            changes, "pipe.dit.", ("lora_A.default.weight", "lora_B.default.weight")
        ),
    }
