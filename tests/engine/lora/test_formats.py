"""The same LoRA gives the same result in whatever format it is written."""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model

from tests.engine.lora import formats, networks
from tests.engine.lora.networks import NETWORKS, make_lora, run

CLOSE = 1e-5


def by_peft(network, compute, changes):
    """What peft makes of the LoRA by its own rules."""
    return run(with_pefts_layers(copy.deepcopy(network), changes), compute)


def with_pefts_layers(network, changes):
    rank = networks.RANK
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(changes))
    changed = inject_adapter_in_model(config, network).eval()
    for name, change in changes.items():
        layer = changed.get_submodule(name)
        layer.lora_A["default"].weight.data = change.down.clone()
        layer.lora_B["default"].weight.data = change.up.clone()
    return changed


def cases():
    for kind in NETWORKS:
        names = [*formats.own_formats({})]
        names += [*formats.authors_formats({})]
        yield from ((kind, name) for name in names)


@pytest.fixture(scope="module")
def made():
    """Network → itself, how it is run, its LoRA, and results without and with it."""
    found = {}
    for kind, (make, model) in NETWORKS.items():
        network, compute = make()
        changes = make_lora(network)
        plain, reference = run(network, compute), by_peft(network, compute, changes)
        found[kind] = network, compute, model, changes, plain, reference
    return found


@pytest.mark.parametrize(("kind", "style"), list(cases()))
def test_every_format_gives_what_peft_gives(made, put_on, kind, style):
    network, compute, model, changes, plain, reference = made[kind]
    if kind == "hyvideo-1.5":
        renamed = networks.in_hunyuan15s_names(changes)
    else:
        renamed = networks.in_authors_names(kind, changes)
    written = {**formats.own_formats(changes), **formats.authors_formats(renamed)}
    with put_on(network, model, (written[style], 1.0)) as given:
        result = run(network, compute)
    assert given.warnings == []
    assert (reference - plain).abs().max() > 0.01
    close = 2e-2 if style == "fp16" else CLOSE
    assert float((result - reference).abs().max()) <= close
    assert torch.equal(run(network, compute), plain)
