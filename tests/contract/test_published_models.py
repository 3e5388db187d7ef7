"""Every model of the catalogue in full size, without weights: what its family loads
finds exactly the names and shapes that are published."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import footprint
from engine.family import ModelVariant, WeightFile, all_variants, get_family
from engine.loading.header import Header, TensorInfo
from engine.loading.layouts.layout import rows_of
from engine.loading.matching import Match, is_from_transformers, match, shapes_of
from engine.loading.stored import Stored
from engine.loading.streaming import blocks_of, bytes_of, least_bytes
from tests.documents import names_in_first_column, section
from tests.published import AUTHORS_NAMES, MODELS, NETWORKS, Part, Tensors, plain
from tests.tiny_wan import make_tokenizer

WITH_AUTHORS_NAMES = [name for name, each in NETWORKS.items() if each.authors]

FAMILY_MODULES = (
    "wan.load",
    "ltx_video.family",
    "hyvideo.hunyuan",
    "hyvideo.hunyuan15",
    "hyvideo.framepack",
)

NOT_NETWORKS = {"tokenizer", "tokenizer_2", "scheduler", "feature_extractor"}

LTX_PREFIX = re.compile(r"^(model\.diffusion_model|vae)\.")

PACKED = ("int8", "fp8")

AUTHORS = ("Wan-AI/", "Lightricks/", "tencent/")
"""Whose repositories have files under their own names."""

DOWNLOADED = [id_ for id_, each in all_variants().items() if each.hub or each.files]


@cache
def built(name: str) -> Any:
    """The published network on the meta device."""
    network = NETWORKS[name]
    with torch.device("meta"):
        if is_from_transformers(network.kind):
            return network.kind(network.kind.config_class(**network.config))
        return network.kind(**network.config)


def stored(tensors: Tensors, config: Path | None = None) -> Stored:
    """A file with these names and shapes."""
    place = Path("published.safetensors")
    infos = {name: TensorInfo("BF16", tuple(x.shape)) for name, x in tensors.items()}
    return Stored(place, {place: Header(infos)}, config)


def config_of(network: Any) -> dict[str, Any]:
    if is_from_transformers(type(network)):
        return dict(network.config.to_dict())
    own = {key: value for key, value in network.config.items() if key[0] != "_"}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}


def by_authors(name: str, beside: tuple[str, ...]) -> Stored:
    """The file of a network, and of those ``beside`` it, under its authors' names."""
    tensors: dict[str, Any] = {}
    for each in (name, *beside):
        names = NETWORKS[each].authors
        assert names is not None, f"no file of {each} is loaded under such names"
        tensors |= names(built(each))
    return stored(tensors)


@cache
def loaded_from_file(kind: Any, name: str, beside: tuple[str, ...]) -> Any:
    untold = {key: NETWORKS[name].config[key] for key in NETWORKS[name].untold}
    found = match(kind, by_authors(name, beside), untold)
    found.check()
    assert shapes_of(found.network) == shapes_of(built(name))
    assert config_of(found.network) == config_of(built(name))
    assert not torn(found)
    return found.network


def torn(found: Match) -> list[str]:
    """Weights of which some rows go to two places, or only some go anywhere."""
    rows: Counter[str] = Counter()
    for name, pieces in found.sources.items():
        if name != "encoder.embed_tokens.weight":  # the same as shared.weight
            for each in pieces:
                rows[each.name] += each.stop - each.start
    weights = found.stored.weights
    return [name for name in rows if rows[name] != rows_of(weights[name].info.shape)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


@cache
def loaded_from_folder(kind: Any, name: str, folders: Path) -> Any:
    network, folder = built(name), folders / name
    if is_from_transformers(type(network)):
        network.config.save_pretrained(folder)
    else:
        network.save_config(folder)
    found = match(kind, stored(NETWORKS[name].names(network), folder), {})
    found.check()
    assert shapes_of(found.network) == shapes_of(network)
    config, published = config_of(found.network), config_of(network)
    assert all(config[key] == published[key] for key in config.keys() & published)
    return found.network


@pytest.mark.parametrize("name", WITH_AUTHORS_NAMES)
def test_file_under_its_authors_names_tells_the_network(name: str) -> None:
    loaded_from_file(NETWORKS[name].kind, name, ())


@pytest.mark.parametrize("name", AUTHORS_NAMES)
def test_authors_names_are_those_of_their_classes(name: str) -> None:
    file = by_authors(name, ()).tensors
    lines = sorted(
        f"{LTX_PREFIX.sub('', weight)} {file[weight].shape}"
        for weight in file
        if not weight.startswith("vae.per_channel_statistics.")  # beside the network
    )
    digest = sha256("\n".join(lines).encode()).hexdigest()
    assert digest.startswith(AUTHORS_NAMES[name])


def parts_of(variant: ModelVariant) -> Mapping[str, Part]:
    """The model's networks; of one that only has a file of its own for a network of
    another model, that one's."""
    folder = variant.folder if variant.id in MODELS else variant.base_folder
    rows = all_variants()
    same = [id_ for id_ in MODELS if id_ in rows and rows[id_].folder == folder]
    assert same, "its networks aren't in tests/published.py"
    return MODELS[same[0]]


@pytest.mark.parametrize("model", DOWNLOADED)
def test_model_is_built_in_full_size_from_what_is_published(
    model: str, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = all_variants()[model]
    parts = parts_of(variant)

    loaded = {}

    def load_component(kind: Any, place: Path, *_: Any) -> Any:
        name = parts[place.name].network
        beside = file_mates(variant, place.name, parts)
        if beside is None:
            loaded[place.name] = loaded_from_folder(kind, name, folders)
        else:
            loaded[place.name] = loaded_from_file(kind, name, beside)
        return loaded[place.name]

    monkeypatch.setattr("engine.loading.checkpoint.load_component", load_component)
    for module in FAMILY_MODULES:
        monkeypatch.setattr(f"{module}.load_tokenizer", lambda *_: make_tokenizer())
    monkeypatch.setattr("engine.lora.merge.merge_lora", lambda *_: None)
    (folders / "scheduler").mkdir(exist_ok=True)
    (folders / "scheduler" / "scheduler_config.json").write_text("{}")
    places = {name: folders / name for name in [*parts, *others(variant, parts)]}
    pipeline = get_family(variant.family).load(
        variant, places, "bfloat16", lambda _: None
    )
    assert loaded.keys() == parts.keys()
    assert loaded.items() <= pipeline.components.items()
    if told := footprint.parts_of(variant):
        networks = [each for name, each in loaded.items() if name != "vae"]
        blocks = [bytes_of(block) for each in networks for block in blocks_of(each)]
        least, slots = (  # of float32, as they are made here
            size / 2 / footprint.GIB
            for size in (least_bytes(networks), 2 * max(blocks))
        )
        assert told.slots == pytest.approx(slots, abs=0.02)
        assert told.rest == pytest.approx(least - slots, abs=0.02)


def others(variant: ModelVariant, parts: Mapping[str, Part]) -> Iterator[str]:
    """What else the model's files have: no networks."""
    yield from NOT_NETWORKS
    if "image_encoder" in parts or parts["text_encoder"].network == "llava":
        yield "image_processor"
    if "distilled_lora" in variant.files:
        yield "distilled_lora"


def file_mates(
    variant: ModelVariant, component: str, parts: Mapping[str, Part]
) -> tuple[str, ...] | None:
    """The networks beside ``component`` in its file; ``None`` when it has a folder."""
    own = variant.files.get(component)
    if own is None or own[0].is_folder:
        return None
    return tuple(
        parts[other].network
        for other, choices in variant.files.items()
        if other != component and other in parts and choices[0] == own[0]
    )


@cache
def gigabytes(part: Part, width: int) -> float:
    """Of its files with so many bytes for a weight."""
    count: Counter[bool] = Counter()
    for name, tensor in plain(built(part.network)).items():
        count[name.startswith(part.half)] += tensor.numel()
    return (count[False] * width + count[True] * min(width, 2)) / 1e9


def width_of(choice: WeightFile | None, part: Part, variant: ModelVariant) -> int:
    if choice is not None and choice.precision in PACKED:
        return 1
    is_known = choice is None or choice.is_folder or variant.id in MODELS
    return part.width if is_known else 2


@pytest.mark.parametrize("model", DOWNLOADED)
def test_stated_sizes_are_those_of_the_networks(model: str) -> None:
    variant = all_variants()[model]
    parts = parts_of(variant)
    total = 0.0
    for component, part in parts.items():
        choices = variant.files.get(component, ())
        for choice in choices:
            check_size(choice, variant, parts)
        first = choices[0] if choices else None
        if first is not None and first.precision in PACKED:
            total += first.gigabytes
        else:
            total += gigabytes(part, width_of(first, part, variant))
    lora = variant.files.get("distilled_lora", ())
    total += sum(choice.gigabytes for choice in lora[:1])
    assert variant.gigabytes == pytest.approx(total, abs=0.51)


def check_size(
    choice: WeightFile, variant: ModelVariant, parts: Mapping[str, Part]
) -> None:
    held = [
        parts[component]
        for component, choices in variant.files.items()
        if component in parts and choice in choices
    ]
    size = sum(gigabytes(part, width_of(choice, part, variant)) for part in held)
    # Packed files keep some weights as they were, and have scales.
    near = 0.06 if choice.precision in PACKED else 0.01
    assert choice.gigabytes == pytest.approx(size, rel=near, abs=0.05), choice


MEASURED = [id_ for id_ in DOWNLOADED if footprint.parts_of(all_variants()[id_])]


@pytest.mark.parametrize("model", MEASURED)
def test_memory_is_foretold_of_networks_of_this_size(model: str) -> None:
    variant = all_variants()[model]
    parts, told = parts_of(variant), footprint.parts_of(variant)
    assert told is not None
    in_half = {name: gigabytes(part, 2) for name, part in parts.items()}
    text = sum(size for name, size in in_half.items() if "text_encoder" in name)
    assert told.billions * 2 == pytest.approx(in_half["transformer"], rel=0.01)
    assert told.text_gib * footprint.GIB / 1e9 == pytest.approx(text, rel=0.01)
    assert told.transformers == sum(name.startswith("transformer") for name in parts)


def test_models_of_which_less_is_known_are_named_in_the_docs() -> None:
    told = names_in_first_column(section("docs/models.md", "Checked without weights"))
    assert sorted(told) == sorted(model for model in DOWNLOADED if is_on_trust(model))


def is_on_trust(model: str) -> bool:
    """Whether a file of it is repacked, or its transformer has one kind of names."""
    variant = all_variants()[model]
    parts = parts_of(variant)
    first = [variant.files[each][0] for each in parts if each in variant.files]
    repacked = [
        choice
        for choice in first
        if not choice.is_folder and not choice.repository.startswith(AUTHORS)
    ]
    names = NETWORKS[parts["transformer"].network].authors
    return bool(repacked) or names in (None, plain)
