"""How much of a GPU's memory a video takes, told before it is made. Loads no torch.

Parameter counts are those of the networks. What depends on a video's size is scaled
from peaks that were measured on one H100 with diffusers 0.42.1 in bfloat16: Wan 2.1 at
832 x 480 x 81, LTX Video at 1280 x 704 x 81, HunyuanVideo at 960 x 544 x 81, its VAE at
832 x 480 x 81; docs/performance.md compares it with whole jobs.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.family import ModelVariant
from engine.loading.placement import STREAMED, WORKING_BYTES, choose_placement
from engine.request import GenerationRequest

GIB = 1 << 30

TOKEN_BYTES, TOKEN_POWER = 45e3, 0.38
"""A token takes ``TOKEN_BYTES`` × (billions of parameters) ** ``TOKEN_POWER`` while the
transformer runs: measured were 51 KB at 1.4 billion, 112 to 133 KB at 13 to 14."""

MARGIN = 1.15
"""So much more is left free for a video than what it should take."""

BY_MMGP = {2: (1.2, 3.0), 4: (1.2, 3.0), 5: (0.4, 3.0)}
"""Memory profile → how many GiB of the transformer and of other parts are on the GPU at
once."""


@dataclass(frozen=True)
class Vae:
    """What decoding takes beside the VAE's weights, in GiB per million pixels of a
    frame, or of all frames where it decodes them together."""

    gib: float
    """Of weights."""
    whole: float
    tiled: float
    """At its usual tiles; as ``whole`` where it can't tile."""
    together: bool


# In float16, 3.8 GiB for 0.4 million pixels, 0.6 in tiles of 256 pixels; the frames of
# all tiles wait in main memory.
WAN_VAE = Vae(0.25, 9.5, 1.5, together=False)
# 9.3 and 3.9 GiB for 73 million pixels of all frames, less 2.3 GiB of weights.
LTX_VAE = Vae(2.3, 0.096, 0.022, together=True)
# 22.2 GiB for 32 million pixels of all frames, and 4.2 for 42 million in tiles of 256,
# less 0.5 GiB of weights.
HUNYUAN_VAE = Vae(0.5, 0.671, 0.088, together=True)


@dataclass(frozen=True)
class Parts:
    """The parts of a model, in bfloat16."""

    billions: float
    """Parameters of the transformer, of each where there are two."""
    slots: float
    """GiB of the two largest blocks that memory profile 6 has on the GPU at once."""
    rest: float
    """GiB that are in no block, and on the GPU under memory profile 6."""
    text_gib: float
    vae: Vae
    token: int = 16
    """Pixels of a side."""
    transformers: int = 1
    batched: bool = False
    """Whether guidance makes the transformer see two videos at once."""
    enlarged: float = 1.0
    """So many times as wide and as high as the video is what the last pass makes."""


UMT5, T5, LLAMA, LLAVA = 10.6, 8.9, 14.2, 15.8
"""GiB of text encoders, the second one with the first."""

PARTS = {
    "wan2.1-t2v-1.3b": Parts(1.419, 0.72, 0.05, UMT5, WAN_VAE),
    "wan2.1-t2v-14b": Parts(14.288, 1.31, 0.43, UMT5, WAN_VAE),
    "wan2.1-i2v-14b": Parts(16.395, 1.5, 0.45, UMT5, WAN_VAE),
    "wan2.1-flf2v-14b": Parts(16.395, 1.5, 0.45, UMT5, WAN_VAE),
    "wan2.1-vace-1.3b": Parts(2.154, 0.72, 0.05, UMT5, WAN_VAE),
    "wan2.1-vace-14b": Parts(17.338, 1.5, 0.44, UMT5, WAN_VAE),
    "wan2.2-t2v-a14b": Parts(14.288, 1.31, 0.87, UMT5, WAN_VAE, transformers=2),
    "wan2.2-i2v-a14b": Parts(14.289, 1.31, 0.87, UMT5, WAN_VAE, transformers=2),
    "skyreels-v2-df-1.3b": Parts(1.435, 0.72, 0.08, UMT5, WAN_VAE),
    "skyreels-v2-df-14b": Parts(14.288, 1.31, 0.43, UMT5, WAN_VAE),
    "ltxv-2b": Parts(1.923, 0.72, 0.08, T5, LTX_VAE, token=32, batched=True),
    "ltxv-13b": Parts(
        13.043, 1.0, 0.31, T5, LTX_VAE, token=32, batched=True, enlarged=4 / 3
    ),
    "hunyuan-video-t2v": Parts(12.821, 1.27, 0.67, LLAMA, HUNYUAN_VAE),
    "hunyuan-video-i2v": Parts(12.821, 1.27, 2.25, LLAVA, HUNYUAN_VAE),
}
"""Beginning of a model's id → its parts. Models that nothing was measured of, such as
those with other VAEs, aren't here."""


@dataclass(frozen=True)
class Footprint:
    """GiB of the GPU."""

    transformer: float
    """Its weights that are there at once."""
    text_encoder: float
    vae: float
    activations: float
    """While the transformer runs."""
    decoding: float
    peak: float
    """Of all phases."""
    profile: int | None
    """The memory profile; ``None`` when the whole model fits."""


def footprint(
    variant: ModelVariant,
    request: GenerationRequest,
    profile: str,
    free_vram: int,
    free_ram: int,
) -> Footprint | None:
    """What the video takes with this memory profile (``auto`` or a number), with so
    many bytes free; ``None`` for a model that nothing is known of."""
    parts = parts_of(variant)
    if parts is None:
        return None
    weight = parts.billions * 2e9 / GIB
    sizes = {
        "transformer": weight,
        "text_encoder": parts.text_gib,
        "vae": parts.vae.gib,
        **({"transformer_2": weight} if parts.transformers > 1 else {}),
    }
    working = working_bytes(variant, request)
    placed = choose_placement(
        profile,
        {name: int(size * GIB) for name, size in sizes.items()},
        free_vram,
        free_ram,
        working,
    ).profile
    activations = activation_gib(parts, variant, request)
    whole = sum(sizes.values())
    transformer, text, vae = weight, parts.text_gib, parts.vae.gib
    if placed in BY_MMGP:
        first, other = BY_MMGP[placed]
        transformer, text = min(transformer, first), min(text, other)
    resting = whole if placed is None else 0.0
    if placed == STREAMED:  # blocks that there is room for stay, and so does the VAE
        transformer = text = parts.slots + parts.rest
        room = (free_vram - working) / GIB - transformer - vae
        transformer = min(weight, transformer + max(0.0, room))
        resting = transformer + vae
    denoising = max(resting, transformer) + activations
    beside = max(resting - parts.slots if placed == STREAMED else resting, vae)
    decoding = decoding_gib(parts, variant, request, free_vram / GIB - beside)
    peak = max(denoising, text, beside + decoding)
    return Footprint(transformer, text, vae, activations, decoding, peak, placed)


def working_bytes(variant: ModelVariant, request: GenerationRequest) -> float:
    """What the video takes beside the weights, with a margin."""
    parts = parts_of(variant)
    if parts is None:
        return WORKING_BYTES
    decoding = decoding_gib(parts, variant, request, free_gib=0)
    needed = max(activation_gib(parts, variant, request), decoding)
    return MARGIN * needed * GIB


def parts_of(variant: ModelVariant) -> Parts | None:
    """What is known of the model: the longest beginning of its id that is listed."""
    known = [start for start in PARTS if variant.id.startswith(start)]
    return PARTS[max(known, key=len)] if known else None


def tokens(variant: ModelVariant, request: GenerationRequest) -> int:
    """How many the transformer of a model in ``PARTS`` sees at once: patches of all
    latent frames."""
    assert request.width and request.height and request.num_frames
    parts, frames = parts_of(variant), request.num_frames
    assert parts
    if variant.window_frames:
        frames = min(frames, variant.window_frames)
    latent = (frames - 1) // variant.limits.frames_multiple + 1
    across, down = -(-request.width // parts.token), -(-request.height // parts.token)
    return latent * across * down


def activation_gib(
    parts: Parts, variant: ModelVariant, request: GenerationRequest
) -> float:
    """While the transformer runs."""
    guided = parts.batched and (request.guidance_scale or 0) > 1
    each: float = TOKEN_BYTES * parts.billions**TOKEN_POWER
    seen = tokens(variant, request) * parts.enlarged**2
    return seen * each * (2 if guided else 1) / GIB


def decoding_gib(
    parts: Parts, variant: ModelVariant, request: GenerationRequest, free_gib: float
) -> float:
    """While frames are decoded: in tiles where the whole doesn't fit into what is
    free."""
    assert request.width and request.height and request.num_frames
    vae = parts.vae
    frames = request.num_frames if vae.together else 1
    millions = request.width * request.height * frames * parts.enlarged**2 / 1e6
    whole, tiled = millions * vae.whole, millions * vae.tiled
    if request.vae_tile_size == 0 or not variant.limits.min_vae_tile:
        return whole
    return whole if whole <= free_gib and not request.vae_tile_size else tiled


def footprint_told(found: Footprint, total: int) -> str:
    """``About 9.4 of 12 GB of GPU memory``; the numbers are GiB, which graphics cards
    are sold by."""
    told = f"About {found.peak:.1f} of {total / GIB:.0f} GB of GPU memory"
    if found.profile is not None:
        told += f", with memory profile {found.profile}"
    if found.peak * GIB > total:
        told += ". That may be too much; fewer frames or a smaller picture take less"
    return told
