"""What is on the disk of each model, and what is left when one is deleted."""

from dataclasses import replace

import pytest

from engine.errors import UserError
from engine.family import WeightFile, get_variant
from engine.loading import inventory
from engine.loading.download import MIB, get_weights
from engine.loading.inventory import (
    deletable,
    delete,
    stock_of,
    throw_away,
    verify,
)
from engine.progress import Progress
from tests.engine.loading.test_weights import write_layout
from tests.hub_server import FakeHub, ask, safetensors

REPOSITORY = "someone/model"
SHARED = WeightFile(REPOSITORY, "text/encoder.safetensors", 0.001)
ONE = replace(
    get_variant("wan2.1-t2v-1.3b"),
    id="one",
    hub=None,
    folder="one",
    files={
        "transformer": (WeightFile(REPOSITORY, "one.safetensors", 0.001),),
        "text_encoder": (SHARED,),
    },
)
TWO = replace(
    ONE,
    id="two",
    folder="two",
    files={**ONE.files, "transformer": (replace(SHARED, path="two.safetensors"),)},
)
FILES = {
    "one.safetensors": safetensors(MIB),
    "two.safetensors": safetensors(20),
    SHARED.path: safetensors(30),
}


def no_choice(_variant):
    return {}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.settings.PROJECT", tmp_path / "project")
    models = {"one": ONE, "two": TWO}
    monkeypatch.setattr(inventory, "all_models", lambda _settings: models)
    with FakeHub({REPOSITORY: dict(FILES)}).serving() as hub:
        ask(monkeypatch, hub.address, tmp_path / "cache")
        yield hub


@pytest.fixture(params=["cache", "ckpts"])
def place(request, settings, tmp_path):
    """Settings, and the folder that downloads go to with them."""
    folder = tmp_path / "cache" if request.param == "cache" else settings.root / "ckpts"
    return settings.model_copy(update={"download_to": request.param}), folder


def get(variant, settings):
    return get_weights(variant, settings, Progress("test"), {})


def stock(variant, settings):
    return stock_of(variant, settings, no_choice)


def left(folder):
    return sorted(
        path.name
        for path in folder.rglob("*.safetensors")
        if ".cache" not in path.parts
    )


def test_a_model_says_what_it_takes_and_what_it_lacks(hub, place):
    settings, folder = place
    assert stock(ONE, settings).missing == ("one.safetensors", SHARED.path)
    assert stock(ONE, settings).size == 0
    found = get(ONE, settings)
    assert found["transformer"].is_relative_to(folder)
    here = stock(ONE, settings)
    assert here.missing == ()
    assert here.size == len(FILES["one.safetensors"]) + len(FILES[SHARED.path])
    found["transformer"].unlink()
    assert stock(ONE, settings).missing == ("one.safetensors",)


def test_a_check_finds_the_byte_that_is_wrong(hub, place):
    settings, _ = place
    found = get(ONE, settings)
    read = []
    assert str(verify(stock(ONE, settings), read.append)) == "2 files are sound"
    assert sum(read) == stock(ONE, settings).size
    hub.requests.clear()
    with found["transformer"].resolve().open("r+b") as file:
        file.seek(2000)
        file.write(b"\0\1\2\3")
    verdict = verify(stock(ONE, settings), read.append)
    assert [each.name for each in verdict.damaged] == ["one.safetensors"]
    assert verdict.sound == 1
    assert str(verdict) == "damaged: one.safetensors"
    assert hub.requests == []
    # Repaired by fetching that one again.
    throw_away(verdict.damaged, stock(ONE, settings), settings)
    assert stock(ONE, settings).missing == ("one.safetensors",)
    get(ONE, settings)
    assert verify(stock(ONE, settings), read.append).sound == 2
    assert not [line for line in hub.requests if line.startswith(f"GET {SHARED.path}")]


def test_a_file_without_a_known_hash_is_told_as_such(hub, settings):
    file = settings.root / "ckpts" / "one.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"mine")
    assert "of 1 no hash is known" in str(verify(stock(ONE, settings), lambda _: None))


def test_what_comes_with_the_app_is_checked_by_its_list_of_hashes(settings):
    demo = stock_of(get_variant("wan-demo"), settings, no_choice)
    verdict = verify(demo, lambda _: None)
    assert verdict.sound >= 10
    assert verdict.damaged == ()


def test_a_part_of_what_comes_with_the_app_is_not_enough(settings):
    variant = replace(get_variant("wan-demo"), folder="shipped")
    folder = write_layout(settings.root / "ckpts/shipped")
    assert stock(variant, settings).missing == ()
    next(folder.rglob("*.safetensors")).unlink()
    assert stock(variant, settings).missing == ("its files",)


def test_deleting_leaves_what_another_model_needs(hub, place):
    settings, folder = place
    get(ONE, settings)
    two = get(TWO, settings)
    before = stock(ONE, settings)
    freed = delete(before, settings, no_choice)
    assert freed == len(FILES["one.safetensors"])
    assert left(folder) == ["encoder.safetensors", "two.safetensors"]
    assert two["text_encoder"].read_bytes() == FILES[SHARED.path]
    # The last one takes everything along.
    delete(stock(TWO, settings), settings, no_choice)
    assert left(folder) == []
    assert not list(folder.rglob("blobs/*"))


def test_what_an_incomplete_model_has_keeps_nothing(hub, place):
    settings, folder = place
    get(ONE, settings)
    delete(stock(ONE, settings), settings, no_choice)
    assert left(folder) == []


def test_folders_of_other_apps_are_used_and_never_touched(hub, settings, tmp_path):
    comfy = tmp_path / "ComfyUI"
    for folder, name in (("diffusion_models", "one"), ("text_encoders", "encoder")):
        (comfy / "models" / folder).mkdir(parents=True)
        (comfy / "models" / folder / f"{name}.safetensors").write_bytes(b"theirs")
    settings = settings.model_copy(update={"model_dirs": (comfy,)})
    before = sorted((path, path.stat().st_mtime_ns) for path in comfy.rglob("*"))
    found = get(ONE, settings)
    assert found["transformer"].parent == comfy / "models" / "diffusion_models"
    assert found["text_encoder"].parent == comfy / "models" / "text_encoders"
    assert hub.requests == []
    assert deletable(stock(ONE, settings), settings, no_choice) == []
    theirs = [found["transformer"]]
    with pytest.raises(UserError, match=r"one\.safetensors is damaged and isn't the"):
        throw_away(theirs, stock(ONE, settings), settings)
    with pytest.raises(UserError, match="they lie in folders of other apps"):
        delete(stock(ONE, settings), settings, no_choice)
    assert sorted((p, p.stat().st_mtime_ns) for p in comfy.rglob("*")) == before


def test_a_folder_that_is_only_linked_to_is_not_emptied(hub, settings, tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "one.safetensors").write_bytes(b"precious")
    (settings.root / "ckpts").mkdir(parents=True)
    (settings.root / "ckpts" / "one").symlink_to(outside)
    assert stock(ONE, settings).size == len(b"precious")
    with pytest.raises(UserError, match="one stays"):
        delete(stock(ONE, settings), settings, no_choice)
    assert (outside / "one.safetensors").read_bytes() == b"precious"


def test_a_link_to_one_file_goes_and_the_file_stays(hub, settings, tmp_path):
    precious = tmp_path / "precious.safetensors"
    precious.write_bytes(b"precious")
    link = settings.root / "ckpts" / "one.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)
    delete(stock(ONE, settings), settings, no_choice)
    assert not link.is_symlink()
    assert precious.read_bytes() == b"precious"


def test_what_comes_with_the_app_stays(settings):
    demo = stock_of(get_variant("wan-demo"), settings, no_choice)
    assert demo.size > 0
    with pytest.raises(UserError, match="comes with the app"):
        delete(demo, settings, no_choice)


def test_the_rest_of_ckpts_stays(hub, settings):
    settings = settings.model_copy(update={"download_to": "ckpts"})
    other = settings.root / "ckpts" / "mine" / "other.safetensors"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")
    get(ONE, settings)
    delete(stock(ONE, settings), settings, no_choice)
    assert left(settings.root / "ckpts") == ["other.safetensors"]


def test_deleting_a_base_leaves_what_a_further_training_of_it_needs(
    settings, monkeypatch, tmp_path
):
    monkeypatch.setattr("engine.settings.PROJECT", tmp_path / "project")
    base = replace(get_variant("wan2.1-t2v-1.3b"), id="base", folder="base")
    file = (WeightFile("", "further.safetensors"),)
    own = {"folder": "further", "base_folder": "base", "files": {"transformer": file}}
    models = {"base": base, "further": replace(base, id="further", **own)}
    monkeypatch.setattr(inventory, "all_models", lambda _settings: models)
    write_layout(settings.root / "ckpts" / "base")
    assert stock(models["further"], settings).missing == ("further.safetensors",)
    assert delete(stock(base, settings), settings, no_choice)  # nobody needs it

    write_layout(settings.root / "ckpts" / "base")
    (settings.root / "ckpts" / "further.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="other models use its files"):
        delete(stock(base, settings), settings, no_choice)
    assert stock(models["further"], settings).missing == ()
