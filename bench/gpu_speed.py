"""How long one forward of a large transformer takes, and how much memory, on a GPU:
``python -m bench.gpu_speed PIECE [--case CASE]``. Weights are random; speed doesn't
depend on them.

Pieces, each of at most four minutes:

- ``attention``: every attention backend alone, at the size of Wan 14B
- ``forward``: stock diffusers, then the app's ways, exact and in 8 bits
- ``caps``: the model compiled and resident, then streamed under caps of memory
- ``peers``: mmgp and diffusers' own offload under the same caps
- ``vae``: Wan's VAE, decoding, in several layouts and precisions

Each row is printed, and added to ``--out`` as a line of JSON, as soon as it is there.
Times are medians after a warm-up; the peaks are torch's own and the driver's. The
cosine is to stock diffusers' output, or to the first row's.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import gettempdir
from types import SimpleNamespace
from typing import Any

import torch

from bench.clock import now
from bench.speed_networks import CASES, Case, make
from bench.speed_vae import VAE_WAYS, decoder
from engine.attention.registry import BACKENDS, prepare, why_not
from engine.attention.use import machine_of, use_attention
from engine.errors import UserError
from engine.loading import streaming
from engine.loading.chunked import feed_forward_chunked
from engine.loading.kernels import compile_blocks
from engine.loading.offload import place
from engine.progress import Progress
from engine.settings import Settings

GIB = 1 << 30
HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda:0" if HAS_GPU else "cpu"
CHUNKS = 8
"""Of feed-forward layers, where a cap is too low without."""


@dataclass(frozen=True)
class Way:
    """How a forward is made; each next one in the table only adds to those before."""

    attention: str = "sdpa"
    compiled: bool = False
    products: str = "exact"


WAYS = {
    "stock": Way(),
    "flash3": Way("flash3"),
    "compiled": Way("sdpa", compiled=True),
    "compiled flash3": Way("flash3", compiled=True),
    "int8": Way("auto", compiled=True, products="int8"),
    "fp8": Way("auto", compiled=True, products="fp8"),
    "fp8 flash3-fp8": Way("flash3-fp8", compiled=True, products="fp8"),
}


class Table:
    """Rows on the screen and in a file."""

    def __init__(self, piece: str, out: Path | None) -> None:
        self._piece, self._out = piece, out
        self.first: Any = None
        """What the first row made, to compare with."""

    def row(self, name: str, **found: Any) -> None:
        shown = [
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
            for k, v in found.items()
        ]
        print(f"| {self._piece} | {name} | " + " | ".join(shown) + " |", flush=True)
        if self._out:
            with self._out.open("a", encoding="utf-8") as file:
                file.write(
                    json.dumps({"piece": self._piece, "row": name, **found}) + "\n"
                )

    def measure(self, name: str, run: Callable[[], torch.Tensor], repeats: int) -> bool:
        """A row for ``run``; tells whether memory was enough."""
        try:
            seconds, first_call, made, peaks = timed(run, repeats)
        except torch.OutOfMemoryError:
            self.row(name, failed="out of memory")
            return False
        except (RuntimeError, ValueError, TypeError, ImportError, OSError) as error:
            # The rows after this one are worth having all the same.
            self.row(name, failed=f"{type(error).__name__}: {error}"[:200])
            return False
        finally:
            empty()
        made = made.flatten().float().cpu()
        if self.first is None:
            self.first = (made, seconds)
        reference, stock = self.first
        cosine = torch.cosine_similarity(made.double(), reference.double(), dim=0)
        self.row(
            name,
            seconds=seconds,
            faster=stock / seconds,
            first_call=first_call,
            cosine=round(float(cosine), 6),
            same_bits=bool(torch.equal(made, reference)),
            **peaks,
        )
        return True


def timed(
    run: Callable[[], torch.Tensor], repeats: int
) -> tuple[float, float, torch.Tensor, dict[str, float]]:
    """Median seconds, those of the first call, what it made, and peaks in GiB."""
    began = now()
    with torch.no_grad():
        made = run()
    first_call = now() - began
    if HAS_GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        began = now()
        with torch.no_grad():
            made = run()
        times.append(now() - began)
    peaks = {}
    if HAS_GPU:
        free, total = torch.cuda.mem_get_info()
        peaks["allocated"] = torch.cuda.max_memory_allocated() / GIB
        peaks["driver"] = (total - free) / GIB  # torch keeps what it had at the peak
    return median(times), first_call, made, peaks


def empty() -> None:
    gc.collect()
    if HAS_GPU:
        torch.cuda.empty_cache()


@contextmanager
def cap(gib: float) -> Iterator[None]:
    """While it lasts, torch takes no more of the GPU."""
    empty()
    if HAS_GPU:
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(gib * GIB / whole)
    try:
        yield
    finally:
        if HAS_GPU:
            torch.cuda.set_per_process_memory_fraction(1.0)


def network_and_inputs(case: Case, *, tiny: bool) -> tuple[Any, dict[str, Any]]:
    if tiny:
        case = Case(**{**vars(case), "frames": 2, "height": 4, "width": 4})
    network = make(case, tiny=tiny)
    torch.manual_seed(1)
    return network, {
        name: value.to(
            DEVICE,
            torch.bfloat16 if value.is_floating_point() and value.ndim > 1 else None,
        )
        if isinstance(value, torch.Tensor)
        else value
        for name, value in case.inputs(case, network).items()
    }


def forward(network: Any, inputs: dict[str, Any]) -> Callable[[], torch.Tensor]:
    return lambda: network(**inputs, return_dict=False)[0]


def run_attention(table: Table, options: argparse.Namespace) -> None:
    from diffusers.models.attention_dispatch import (
        AttentionBackendName,
        dispatch_attention_fn,
    )

    shape = (1, 64, 2, 16) if options.tiny else (1, 32760, 40, 128)
    torch.manual_seed(0)
    inputs = [torch.randn(shape, dtype=torch.bfloat16, device=DEVICE) for _ in range(3)]
    machine = machine_of(DEVICE)
    for backend in BACKENDS:
        if backend.name in ("sdpa-math", "flash4"):  # takes 80 GB; is downloaded
            continue
        name = AttentionBackendName(backend.diffusers)
        run = partial(dispatch_attention_fn, *inputs, backend=name)
        if why := why_not(backend, machine, masks=False):
            table.row(backend.name, failed=why)
            continue
        try:
            prepare(backend, machine)
            table.measure(backend.name, run, 2 * options.repeats)
        except (RuntimeError, ValueError, TypeError, ImportError, OSError) as error:
            table.row(backend.name, failed=str(error)[:80])


def run_forward(table: Table, options: argparse.Namespace) -> None:
    case = CASES[options.case]
    network, inputs = network_and_inputs(case, tiny=options.tiny)
    pipeline = SimpleNamespace(transformer=network)
    for name, way in WAYS.items():
        if name != "stock" and name not in (options.rows or WAYS):
            continue
        ready = inputs if name == "stock" else case.ours(network, inputs)
        try:
            use_attention(pipeline, way.attention, DEVICE)
            apply(way, pipeline)
        except UserError as error:
            table.row(name, failed=str(error))
            continue
        table.measure(name, forward(network, ready), options.repeats)
    if options.trace:
        trace(forward(network, ready), options.trace)


def apply(way: Way, pipeline: Any) -> None:
    """Raises ``UserError`` where the GPU can't."""
    if way.products != "exact":
        from engine.loading.products import use_products

        use_products(pipeline, way.products, DEVICE)
    if way.compiled:
        torch.compiler.reset()
        compile_blocks(pipeline, Path(gettempdir()) / "wgp-bench")


def trace(run: Callable[[], torch.Tensor], file: Path) -> None:
    """Where the time of the last way goes: the kernels that take most."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CUDA] if HAS_GPU else [ProfilerActivity.CPU]
    with profile(activities=kinds) as profiler, torch.no_grad():
        run()
        now()
    by = "self_device_time_total" if HAS_GPU else "self_cpu_time_total"
    shown = profiler.key_averages().table(
        sort_by=by, row_limit=25, max_name_column_width=90
    )
    file.write_text(shown, encoding="utf-8")
    print(shown)


def run_caps(table: Table, options: argparse.Namespace) -> None:
    case = CASES[options.case]
    network, inputs = network_and_inputs(case, tiny=options.tiny)
    pipeline = SimpleNamespace(transformer=network)
    inputs = case.ours(network, inputs)
    use_attention(pipeline, "auto", DEVICE)
    if HAS_GPU:
        compile_blocks(pipeline, Path(gettempdir()) / "wgp-bench")
    table.measure("resident", forward(network, inputs), options.repeats)
    began = now()
    # A virtual machine's memory may grow as it is used: its share says nothing.
    streaming.PINNED_SHARE = 1000.0
    streamer = streaming.Streamer(
        [network], DEVICE, compiled=[network] if HAS_GPU else []
    )
    pinned = streamer.pinned_bytes / GIB
    table.row("moved to main memory", seconds=now() - began, pinned=pinned)
    for gib in options.caps:
        for chunks in (1, CHUNKS):
            name = f"streamed, {gib:g} GiB, {chunks} chunks"
            with cap(gib), feed_forward_chunked(pipeline, chunks):
                if table.measure(name, forward(network, inputs), options.repeats):
                    break
    streamer.release()


def run_peers(table: Table, options: argparse.Namespace) -> None:
    case = CASES[options.case]
    network, inputs = network_and_inputs(case, tiny=options.tiny)
    use_attention(SimpleNamespace(transformer=network), "sdpa", DEVICE)
    table.measure("stock, resident", forward(network, inputs), options.repeats)
    if not HAS_GPU:
        return
    network.to("cpu")
    os.environ.setdefault("perc_reserved_mem_max", "1000")  # mmgp's share, likewise
    pipeline = SimpleNamespace(transformer=network)
    pipeline.components = {"transformer": network}
    settings = Settings(attention="sdpa", profile="4")
    placed = place(None, pipeline, DEVICE, settings, Progress("bench"))
    for gib in options.caps:
        with cap(gib):
            table.measure(
                f"mmgp 4, {gib:g} GiB", forward(network, inputs), options.repeats
            )
    placed.release()
    del placed, pipeline, network
    empty()
    network, inputs = network_and_inputs(case, tiny=options.tiny)
    network.to("cpu")
    network.enable_group_offload(
        onload_device=torch.device(DEVICE),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=True,
    )
    for gib in options.caps:
        with cap(gib):
            table.measure(
                f"group offload, {gib:g} GiB",
                forward(network, inputs),
                options.repeats,
            )


def run_vae(table: Table, options: argparse.Namespace) -> None:
    for name, way in VAE_WAYS.items():
        run = decoder(way, DEVICE, tiny=options.tiny)
        table.measure(name, run, options.repeats)
        del run


PIECES = {
    "attention": run_attention,
    "forward": run_forward,
    "caps": run_caps,
    "peers": run_peers,
    "vae": run_vae,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("piece", nargs="?", choices=PIECES, default="forward")
    parser.add_argument("--case", choices=CASES, default="wan14b")
    parser.add_argument("--rows", nargs="+", choices=WAYS, help="beside stock")
    parser.add_argument("--caps", nargs="+", type=float, default=[8, 6, 4], help="GiB")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="rows as lines of JSON")
    parser.add_argument("--trace", type=Path, help="where the last row's time goes")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    title = options.piece
    if options.piece in ("forward", "caps", "peers"):
        title += f", {CASES[options.case].title}"
    table = Table(title, options.out)
    began = time.perf_counter()
    PIECES[options.piece](table, options)
    print(f"{time.perf_counter() - began:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
