"""Puts LoRAs on tiny models under each of mmgp's memory profiles, on a CUDA device that
is the CPU, and prints how far the results are from peft's without a profile."""

import gc
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file

from engine.family import LoadedModel, get_variant
from engine.loading import offload
from engine.loading.quantised import quantise_modules
from engine.lora.apply import loras_applied
from engine.progress import Progress
from engine.request import GenerationRequest
from engine.settings import Settings
from tests.engine.lora.formats import written
from tests.engine.lora.networks import NETWORKS, make_lora, run
from tests.fake_cuda import install_fake_cuda

CLOSE = 2e-5


def make_files(folder, network):
    """A LoRA, a DoRA, a LoKr, and a difference of everything that isn't linear."""
    changes = make_lora(network)
    name, change = next((n, c) for n, c in changes.items() if "attn" in n)
    width = change.down.shape[1]
    files = {
        "lora": written(changes, "", alpha=2.0),
        "dora": {
            f"{name}.lora_A.weight": change.down,
            f"{name}.lora_B.weight": change.up,
            f"{name}.dora_scale": torch.linspace(0.5, 1.5, len(change.up))[:, None],
        },
        "lokr": {
            f"{name}.lokr_w1": torch.full((2, 2), 0.2),
            # Not the same everywhere: the sum over a normed input is zero.
            f"{name}.lokr_w2": torch.linspace(
                -0.1, 0.1, len(change.up) // 2 * (width // 2)
            ).view(len(change.up) // 2, width // 2),
        },
        "diff": {
            f"{own.removesuffix('.weight')}.diff": torch.full_like(parameter, 0.1)
            for own, parameter in network.named_parameters()
            if parameter.ndim == 1 and "norm" in own and own.endswith("weight")
        }
        | {f"{name}.diff_b": torch.full((len(change.up),), 0.2)}
        | {
            f"{own}.diff": torch.full_like(parameter, 0.1)
            for own, parameter in network.named_parameters()
            if own.endswith("scale_shift_table")
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file, tensors in files.items():
        kept = {key: tensor.contiguous().clone() for key, tensor in tensors.items()}
        save_file(kept, folder / f"{file}.safetensors")


CHOICES = {
    "lora": {"lora": 0.7},
    "dora": {"dora": 1.0},
    "lokr": {"lokr": 1.0},
    "diff": {"diff": 0.5},
    "stacked": {"lora": 0.5, "diff": 1.0, "lokr": -0.3},
    "schedule": {"lora": "0,1"},
    "none": {"lora": 0.0},
}


def results(model, compute, root):
    """For each choice the result at the first step and at the last, then without."""
    network = model.pipeline.transformer
    found = {"plain": run(network, compute)}
    for name, loras in CHOICES.items():
        request = GenerationRequest.model_validate(
            {
                "model": model.variant.id,
                "prompt": "x",
                "num_inference_steps": 2,
                "loras": [
                    {"name": f"{each}.safetensors", "multiplier": value}
                    for each, value in loras.items()
                ],
            }
        )
        progress = Progress("job")
        with loras_applied(model, request, Settings(root=root), progress) as follow:
            on_step = follow(lambda *_: None)
            found[name] = run(network, compute)
            on_step(1, 2, None)
            found[f"{name}, second step"] = run(network, compute)
        found[f"after {name}"] = run(network, compute)
    return found


def make_model(kind, *, int8):
    make, row = NETWORKS[kind]
    network, compute = make()
    if int8:
        names = [
            f"{name}.weight"
            for name in make_lora(network)
            if network.get_submodule(name).in_features % 32 == 0
        ]
        quantise_modules(network, names)
        for module in network.modules():
            if hasattr(module, "freeze"):
                module.freeze()
    pipeline = SimpleNamespace(transformer=network)
    pipeline.components = {"transformer": network}
    return LoadedModel(get_variant(row), pipeline), compute


def compare(kind, root, *, int8=False):
    model, compute = make_model(kind, int8=int8)
    family = model.variant.family
    make_files(root / "loras" / family, NETWORKS[kind][0]()[0])
    expected = results(model, compute, root)
    for profile in "12345":
        model, compute = make_model(kind, int8=int8)
        settings = Settings(root=root, attention="sdpa", profile=profile)
        placed = offload.place(
            model.variant, model.pipeline, "cuda:0", settings, Progress("job")
        )
        made = results(placed, compute, root)
        far = {
            name: float((made[name] - expected[name]).abs().max()) for name in expected
        }
        wrong = [name for name, distance in far.items() if distance > CLOSE]
        wrong += [
            name
            for name in made
            if name.startswith(("after", "none"))
            and not torch.equal(made[name], made["plain"])
        ]
        without = [name for name in CHOICES if name not in ("none", "schedule")]
        wrong += [n for n in without if torch.equal(made[n], made["plain"])]
        title = f"{kind}{', int8' if int8 else ''}, profile {profile}"
        print(f"{title}: {wrong or 'same'}")
        placed.release()


def main(root):
    install_fake_cuda()
    gc.freeze()  # mmgp collects garbage dozens of times: let it skip the libraries
    for kind in NETWORKS:
        compare(kind, root / kind)
    compare("ltx_video", root / "int8", int8=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
