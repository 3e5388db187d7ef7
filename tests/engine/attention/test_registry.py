import pytest
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
)

from engine.attention.registry import BACKENDS, Machine, available, find
from engine.errors import UserError
from tests.documents import code_in, rows, section

SAGE2 = {"sageattention": "2.2.0"}
SAGE1 = {"sageattention": "1.0.6"}
ALL = {
    **SAGE2,
    "flash-attn": "2.8.3.post1",
    "flash-attn-3": "3.0.0b1",
    "kernels": "0.13.0",
    "xformers": "0.0.35+cu128",
}
TORCH = ["sdpa", "sdpa-cudnn", "sdpa-flash", "sdpa-efficient", "sdpa-math"]
FLASH3 = ["flash3", "flash3-fp8"]
UNMASKED = ["sdpa", "sdpa-cudnn", "sdpa-efficient", "sdpa-math"]


@pytest.mark.parametrize(
    ("capability", "installed", "masks", "names"),
    [
        (None, {}, False, ["sdpa", "sdpa-math"]),
        (None, ALL, False, ["sdpa", "sdpa-math"]),
        ((7, 5), ALL, False, ["sdpa", "sdpa-efficient", "sdpa-math", "xformers"]),
        ((9, 0), {}, False, TORCH),
        ((9, 0), {}, True, UNMASKED),
        ((9, 0), SAGE2, False, [*TORCH, "sage"]),
        ((12, 0), SAGE2, False, [*TORCH, "sage"]),
        ((10, 0), SAGE2, False, TORCH),
        ((9, 0), SAGE1, False, TORCH),
        ((9, 0), {"sageattention": "2.1.0"}, False, TORCH),
        ((9, 0), {"sageattention": "2.1.1"}, False, [*TORCH, "sage"]),
        ((9, 0), {"flash-attn": "2.6.2"}, False, TORCH),
        ((8, 9), ALL, False, [*TORCH, "flash", "sage", "xformers"]),
        ((9, 0), ALL, True, [*UNMASKED, *FLASH3, "xformers"]),
        ((9, 0), {"fa3-fwd": "0.0.3"}, False, [*TORCH, *FLASH3]),
        (
            (9, 0),
            ALL,
            False,
            [*TORCH, "flash", *FLASH3, "flash4", "sage", "xformers"],
        ),
    ],
)
def test_gpu_packages_and_model_decide_what_runs(capability, installed, masks, names):
    machine = Machine(capability, installed)
    assert [each.name for each in available(machine, masks=masks)] == names


def test_diffusers_knows_each_and_wants_the_same_versions():
    assert BACKENDS[0].diffusers == "native"
    for each in BACKENDS:
        assert (
            AttentionBackendName(each.diffusers) in _AttentionBackendRegistry._backends
        )
    ours = {
        each.name: ".".join(map(str, oldest))
        for each in BACKENDS
        for oldest in each.packages.values()
    }
    assert ours["sage"] == attention_dispatch._REQUIRED_SAGE_VERSION
    assert ours["flash"] == attention_dispatch._REQUIRED_FLASH_VERSION
    assert ours["xformers"] == attention_dispatch._REQUIRED_XFORMERS_VERSION


@pytest.mark.parametrize(
    ("asked", "found"),
    [("sdpa", "sdpa"), ("native", "sdpa"), ("sage2", "sage"), ("_flash_3", "flash3")],
)
def test_other_names_are_understood(asked, found):
    assert find(asked, Machine((9, 0), ALL), masks=False).name == found


@pytest.mark.parametrize(
    ("name", "capability", "installed", "masks", "reason"),
    [
        (
            "sage",
            (9, 0),
            {},
            False,
            "needs the package sageattention 2.1.1 or later.",
        ),
        ("sage2", (9, 0), SAGE1, False, "2.1.1 or later, and 1.0.6 is installed."),
        (
            "sage",
            (7, 5),
            SAGE2,
            False,
            "no kernels for a GPU of compute capability 7.5",
        ),
        ("sage", None, SAGE2, False, "it needs a CUDA device."),
        ("sage", (9, 0), SAGE2, True, "it takes no attention masks, which this model"),
        ("flash3", (8, 9), ALL, False, "for a GPU of compute capability 8.9."),
        ("flash4", (9, 0), {}, False, "it needs the package kernels 0.12.3 or later."),
        (
            "fastest",
            None,
            {},
            False,
            "nothing is called so. There are sdpa, ",
        ),
    ],
)
def test_a_refusal_says_why_and_what_there_is(
    name, capability, installed, masks, reason
):
    with pytest.raises(UserError) as caught:
        find(name, Machine(capability, installed), masks=masks)
    said = str(caught.value)
    assert said.startswith(f"attention {name!r} can't be used: ")
    assert reason in said
    assert "Here there is sdpa, " in said
    assert said.endswith("; auto chooses among them")


def test_the_table_in_the_docs_is_the_registry():
    table = rows(section("docs/performance.md", "Attention"))
    shown = [(code_in(name)[0], masks, exact) for name, _, _, masks, exact in table]
    words = {True: "yes", False: "no"}
    assert shown == [
        (each.name, words[each.takes_masks], words[each.is_exact]) for each in BACKENDS
    ]
