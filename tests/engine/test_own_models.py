"""A model of the user's own, as docs/models.md shows it, makes videos."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.catalogue import get_model, own_models
from engine.downloads import Downloads
from engine.errors import MissingWeights
from engine.generate import Generator
from engine.loading.weights import find_weights
from engine.media.metadata import read_request
from engine.media.video import read_frames
from engine.validate import accept
from tests.documents import blocks, section
from tests.hub_server import ask
from tests.tiny_wan import write_tiny_wan
from tests.web_server import Web

EXAMPLE = "my-finetune"
FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def root(settings, tmp_path):
    """A data root with the base in tiny, the example's row, and its transformer, which
    is another one."""
    settings.models.mkdir(parents=True)
    (settings.models / f"{EXAMPLE}.yaml").write_text(examples()[0], "utf-8")
    write_tiny_wan(settings.root / "ckpts" / "demo" / "wan")
    other = write_tiny_wan(tmp_path / "other", seed=1)
    (other / "transformer" / FILE).rename(
        settings.root / "ckpts" / "my_finetune.safetensors"
    )
    return settings.root


def examples():
    return blocks(section("docs/models.md", "Models of your own"), "yaml")


def pixels(settings, model, name, **values):
    data = {"model": model, "prompt": "a red ball", "seed": 1, "width": 64}
    small = {"height": 64, "num_frames": 5, "num_inference_steps": 2}
    request = accept({**data, **small, **values}, folder=None, settings=settings)
    generator = Generator(settings)
    try:
        video = generator.generate(request, settings.outputs / f"{name}.mp4")
    finally:
        generator.close()
    assert read_request(video).model == model
    return np.stack(list(read_frames(video)))


def test_the_documented_model_has_its_own_transformer_and_the_rest_of_its_base(
    root, settings
):
    own = find_weights(get_model(EXAMPLE, settings), settings)
    base = find_weights(get_model("wan-demo", settings), settings)
    assert own["transformer"] == root / "ckpts" / "my_finetune.safetensors"
    assert {**own, "transformer": base["transformer"]} == {
        **base,
        "transformer/base": base["transformer"],
    }
    ours = load_file(own["transformer"])
    theirs = load_file(base["transformer"] / FILE)
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)

    made = pixels(settings, EXAMPLE, "own")
    assert not np.array_equal(made, pixels(settings, "wan-demo", "base"))
    # What it stands for: the base with that transformer.
    (root / "ckpts" / "my_finetune.safetensors").rename(base["transformer"] / FILE)
    assert np.array_equal(made, pixels(settings, "wan-demo", "put in"))


def test_its_defaults_are_its_own(root, settings):
    data = {"model": EXAMPLE, "prompt": "a red ball"}
    assert accept(data, folder=None, settings=settings).num_inference_steps == 12


def test_a_missing_file_is_named_with_where_it_may_lie(root, settings):
    (root / "ckpts" / "my_finetune.safetensors").unlink()
    with pytest.raises(MissingWeights) as told:
        find_weights(get_model(EXAMPLE, settings), settings)
    assert "my-finetune lacks my_finetune.safetensors." in str(told.value)
    assert str(root / "ckpts") in str(told.value)
    assert "Get them with" not in str(told.value)


def test_the_documented_model_at_an_address_comes_with_the_first_video(
    root, settings, monkeypatch
):
    file = root / "ckpts" / "my_finetune.safetensors"
    with Web(file.read_bytes()).serving() as web:
        ask(monkeypatch, web.address, root / "cache")  # the hub isn't forbidden
        row = examples()[1].replace("https://example.com", web.address)
        (settings.models / "toys.yaml").write_text(row, "utf-8")
        with pytest.raises(MissingWeights, match="--download toys") as told:
            find_weights(get_model("toys", settings), settings)
        assert "toys lacks toys.safetensors." in str(told.value)

        offline = settings.model_copy(update={"offline": True})
        with pytest.raises(MissingWeights):
            pixels(offline, "toys", "refused")
        assert web.asked == []
        made = pixels(settings, "toys", "made")
    assert (root / "ckpts" / "toys.safetensors").read_bytes() == file.read_bytes()
    assert np.array_equal(made, pixels(settings, EXAMPLE, "the same"))


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("url: http://example.com/a.safetensors", "url: must begin with https://"),
        ("url: https://example.com/a.ckpt", "url: say with path how the file"),
        ("url: https://example.com/download/7", "url: say with path how the file"),
        (
            "{url: https://example.com/a.gguf, repository: a/b}",
            "url: has a repository, too",
        ),
        (
            "{url: https://example.com/a.gguf, path: ../../a.gguf}",
            "must be a path below",
        ),
        ("{url: https://example.com/a.gguf, sha256: 12}", "sha256"),
    ],
)
def test_what_is_wrong_with_an_address_is_told(settings, own, said):
    settings.models.mkdir(parents=True)
    row = f"base: wan-demo\nfiles:\n  transformer:\n    - {own}\n"
    (settings.models / "toys.yaml").write_text(row, "utf-8")
    assert said in own_models(settings).problems["toys"]


def test_a_file_that_nobody_offers_is_asked_for_in_a_sentence(
    root, settings, monkeypatch
):
    ask(monkeypatch, "http://127.0.0.1:9", root / "cache")
    assert not Downloads(settings).fetch(EXAMPLE)
    (root / "ckpts" / "my_finetune.safetensors").unlink()
    with pytest.raises(MissingWeights, match=r"lacks my_finetune\.safetensors\. They"):
        Downloads(settings).fetch(EXAMPLE)
