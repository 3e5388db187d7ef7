"""Memory profiles: where a model's parts lie while it works.

The only module that imports mmgp, and only when a profile is used: importing it
changes other libraries for the whole process. No profile changes a result: weights keep
the precision that they were loaded in.
"""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.attention.use import DENOISERS, use_attention
from engine.errors import UserError
from engine.family import LoadedModel, ModelVariant
from engine.loading.interrupt import networks_of
from engine.loading.kernels import compile_blocks, keep_compiled
from engine.loading.memory import free_memory
from engine.loading.placement import STREAMED, WORKING_BYTES, choose_placement
from engine.progress import Progress
from engine.settings import Settings

if TYPE_CHECKING:
    import torch

LORA_NETWORKS = ("transformer", "transformer_2")
"""Components that LoRAs change."""

EMPTY_SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


def choose_device(settings: Settings) -> str:
    """The device that models run on, as torch names it.

    Raises ``UserError`` when the one in the settings isn't there.
    """
    if settings.gpu == "cpu":
        return settings.gpu
    import torch

    if not settings.gpu:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    known = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    known += ["mps"] if torch.backends.mps.is_available() else []
    name = "cuda:0" if settings.gpu == "cuda" else settings.gpu
    if name not in known:
        raise UserError(
            f"this machine has no device {settings.gpu!r} that torch can use; it has "
            f"{', '.join([*known, 'cpu'])}"
        )
    return name


def choose_dtype(device: str) -> str:
    """The precision of the denoiser and the text encoder: CPUs are fastest and most
    exact in float32."""
    return "bfloat16" if device.startswith("cuda") else "float32"


def place(
    variant: ModelVariant,
    pipeline: Any,
    device: str,
    settings: Settings,
    progress: Progress,
    working: float = WORKING_BYTES,
) -> LoadedModel:
    """``pipeline`` ready to run on ``device``, placed as its memory allows.

    ``working`` are the bytes that videos need beside the weights; when they are
    infinite, a profile that keeps what fits keeps nothing.
    """
    use_attention(pipeline, settings.attention, device, settings.root)
    profile = None
    if device.startswith("cuda"):
        profile = _profile_for(pipeline, device, settings, progress, working)
    if profile not in (None, STREAMED):
        if compiles(settings):
            exact = settings.products == "exact"
            left_out = "compilation" if exact else "products in 8 bits"
            progress.warn(f"memory profile {profile} runs without {left_out}")
        manager = _place_by_mmgp(pipeline, profile)
        return LoadedModel(
            variant,
            pipeline,
            device,
            manager.release,
            lora_slots=LoraSlots(manager),
            profile=profile,
        )
    if settings.products != "exact":
        from engine.loading.products import use_products

        use_products(pipeline, settings.products, device)
    if profile == STREAMED:
        return _place_by_streaming(variant, pipeline, device, settings, working)
    if device != "cpu":
        pipeline = _move(pipeline, device, progress)
    if compiles(settings):
        compile_blocks(pipeline, settings.root)
    model = LoadedModel(variant, pipeline, device)
    if device.startswith("cuda"):
        model.working = max(working, free_memory(device))
    return model


def compiles(settings: Settings) -> bool:
    """Whether blocks are compiled: without it, rounding to 8 bits takes what it
    saves."""
    return settings.compile or settings.products != "exact"


def can_stream(pipeline: Any) -> bool:
    """Whether memory profile 6 takes it."""
    from engine.loading.streaming import is_streamable

    return all(is_streamable(network) for network in _streamed_networks(pipeline))


def _streamed_networks(pipeline: Any) -> list[Any]:
    vae = pipeline.components.get("vae")
    return [each for each in networks_of(pipeline) if each is not vae]


def _place_by_streaming(
    variant: ModelVariant,
    pipeline: Any,
    device: str,
    settings: Settings,
    working: float,
) -> LoadedModel:
    """Blocks of all networks but the VAE come to ``device`` one by one; those of the
    transformer that fit beside what a video needs stay there."""
    import torch

    from engine.loading.streaming import Streamer, bytes_of, least_bytes

    networks = _streamed_networks(pipeline)
    if not can_stream(pipeline):
        raise UserError(
            f"memory profile {STREAMED} doesn't stream weights of 8 bits: choose "
            "another, or another precision of the model"
        )
    names = [name for name in DENOISERS if getattr(pipeline, name, None) is not None]
    denoisers = [getattr(pipeline, name) for name in names]
    free_vram = torch.cuda.mem_get_info(device)[0]
    resting = least_bytes(networks) + bytes_of(pipeline.vae)
    room = max(0, free_vram - resting - working) / len(denoisers)
    if compiles(settings):
        keep_compiled(settings.root)
    streamer = Streamer(
        networks,
        device,
        compiled=denoisers if compiles(settings) else (),
        room=dict.fromkeys(denoisers, int(room)),
    )
    pipeline.vae.to(device)
    left = max(working, free_memory(device)) if streamer.keeps_blocks else math.inf
    return LoadedModel(
        variant,
        pipeline,
        device,
        streamer.release,
        streamer=streamer,
        profile=STREAMED,
        working=left,
    )


def _move(pipeline: Any, device: str, progress: Progress) -> Any:
    """Weights are read from their files only now: a cancel acts between layers."""
    for network in networks_of(pipeline):
        for module in network.modules():
            if not list(module.children()):
                progress.check()
                module.to(device)
    return pipeline.to(device)


def _profile_for(
    pipeline: Any,
    device: str,
    settings: Settings,
    progress: Progress,
    working: float,
) -> int | None:
    """Which of mmgp's profiles to use, ``None`` for none of them; says why."""
    import psutil
    import torch

    torch.cuda.set_device(device)
    placement = choose_placement(
        settings.profile,
        component_sizes(pipeline),
        free_vram=torch.cuda.mem_get_info(device)[0],
        free_ram=psutil.virtual_memory().available,
        working=working,
        streamable=can_stream(pipeline),
    )
    progress.begin("load", placement.reason)
    return placement.profile


def component_sizes(pipeline: Any) -> dict[str, int]:
    """Bytes of each network of ``pipeline``."""
    return {
        name: sum(_stored_bytes(p) for p in component.parameters())
        for name, component in pipeline.components.items()
        if hasattr(component, "parameters")
    }


def _stored_bytes(parameter: Any) -> int:
    """An 8-bit weight claims the size of what it stands for."""
    stored = getattr(parameter, "_data", parameter)
    return int(stored.numel() * stored.element_size())


def _place_by_mmgp(pipeline: Any, profile: int) -> Any:
    """Put ``pipeline`` under one of mmgp's profiles; returns its manager."""
    import torch

    try:
        offload = import_mmgp()
    except ImportError as error:
        raise UserError(
            f"memory profile {profile} needs mmgp ({error}): pip install mmgp"
        ) from error
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            keep_precision(component)
    try:
        # It greets on stdout, which belongs to whoever reads the app's events.
        with contextlib.redirect_stdout(sys.stderr):
            manager = offload.profile(
                pipeline,
                profile,
                verboseLevel=0,
                quantizeTransformer=False,
                extraModelsToQuantize=[],
                loras=[name for name in LORA_NETWORKS if name in pipeline.components],
                **budgets_of(pipeline, profile),
            )
    finally:
        # It makes CUDA the default for every tensor made from here on.
        torch.set_default_device(None)
    return manager


def budgets_of(pipeline: Any, profile: int) -> dict[str, Any]:
    """How many MB of each network may lie on the GPU, where mmgp's own numbers don't
    fit: it knows no second transformer, of which it would keep far more there than of
    the first."""
    share = {2: 1200, 4: 1200, 5: 400}.get(profile)
    if share is None or getattr(pipeline, "transformer_2", None) is None:
        return {}
    return {"budgets": {"transformer": share, "transformer_2": share, "*": 3000}}


def import_mmgp() -> Any:
    """mmgp's offload module, without what importing it does to others.

    It puts its own reader in the place of safetensors', which transformers then calls
    with arguments that it doesn't know: no second model could be loaded.
    """
    import accelerate.utils.modeling
    import safetensors.torch
    import transformers.modeling_utils

    changed = [
        (safetensors, "safe_open"),
        (safetensors.torch, "load_file"),
        (accelerate.utils.modeling, "safe_open"),
        (accelerate.utils.modeling, "safe_load_file"),
        (transformers.modeling_utils, "safe_open"),
    ]
    originals = [getattr(module, name) for module, name in changed]
    from mmgp import offload

    for (module, name), original in zip(changed, originals, strict=True):
        setattr(module, name, original)
    return offload


def keep_precision(component: Any) -> None:
    """Tell mmgp to leave weights and inputs in their precision.

    It would turn all float32 into bfloat16: the modules that the transformer keeps in
    float32, the VAE, and the timesteps, of which bfloat16 rounds off up to two units.
    """
    import torch

    component._convertWeightsFloatTo = component.dtype
    for module in component.modules():
        module._lock_dtype = torch.float32


class LoraSlots:
    """Where mmgp takes LoRAs: it moves them with the layers that they change."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._names: dict[int, list[str]] = {}
        """By the identity of their network."""

    def load(
        self, network: Any, loras: Sequence[tuple[str, Mapping[str, torch.Tensor]]]
    ) -> None:
        """Take these in, each with a name of its own, instead of those before; their
        tensors are named as in mmgp's files."""
        offload = import_mmgp()
        self._manager.unload_all()  # layers take their LoRAs along when they are loaded
        waiting = iter([dict(tensors) for _, tensors in loras])
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(sys.stderr),
        ):
            # It reads files only; what it reads is replaced on the way.
            stub = Path(folder) / "stub.safetensors"
            stub.write_bytes(EMPTY_SAFETENSORS)
            offload.load_loras_into_model(
                network,
                [str(stub)] * len(loras),
                activate_all_loras=False,
                preprocess_sd=lambda _: next(waiting),
                verboseLevel=0,
            )
        if network._loras_errors:
            said = network._loras_errors[0][1]
            raise RuntimeError(f"mmgp didn't take a LoRA: {said}")
        self._names[id(network)] = [name for name, _ in loras]

    def set_strengths(self, network: Any, strengths: Mapping[str, float]) -> None:
        """The multiplier of each LoRA, by its name."""
        values = [strengths[name] for name in self._names.get(id(network), ())]
        import_mmgp().activate_loras(
            network, [str(number) for number in range(len(values))], values
        )

    def unload(self, network: Any) -> None:
        """Take all off ``network``."""
        self._manager.unload_all()
        import_mmgp().unload_loras_from_model(network)
        self._names.pop(id(network), None)
