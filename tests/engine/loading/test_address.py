"""Files at addresses of the web, which a server on the loopback device plays."""

import hashlib
import os

import pytest

from engine.errors import MissingWeights, UserError
from engine.family import WeightFile
from engine.loading.address import address_fault
from engine.loading.download import Goal, Transfer
from engine.loading.notes import noted_digest
from tests.hub_server import safetensors
from tests.web_server import Web

SIZE = 300_000


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    with Web(safetensors(SIZE)).serving() as web:
        yield web


@pytest.fixture
def fetch(web, tmp_path):
    """Fetches the file of the server; returns its place."""

    def fetch(**own):
        file = WeightFile("", "toys.safetensors", url=f"{web.address}/toys", **own)
        Transfer([file], Goal(tmp_path / "ckpts")).run()
        return tmp_path / "ckpts" / "toys.safetensors"

    return fetch


def files_in(folder):
    return sorted(each.name for each in folder.rglob("*") if each.is_file())


def test_a_file_comes_whole_and_its_hash_is_noted(web, fetch, tmp_path):
    place = fetch()
    assert place.read_bytes() == web.content
    assert noted_digest(place) == hashlib.sha256(web.content).hexdigest()
    assert {token for _, token, _ in web.asked} == {None}  # the hub's is the hub's
    assert files_in(tmp_path / "ckpts") == [
        "toys.safetensors",
        "toys.safetensors.metadata",
    ]


def test_a_cut_download_goes_on_where_it_stopped(web, fetch):
    web.cut_after = SIZE * 99 // 100
    assert fetch().read_bytes() == web.content
    assert [start for start, *_ in web.asked if start] == [SIZE * 99 // 100]


def test_a_wrong_hash_or_a_damaged_file_is_thrown_away(web, fetch, tmp_path):
    sha256 = hashlib.sha256(web.content).hexdigest()
    assert fetch(sha256=sha256).read_bytes() == web.content
    (tmp_path / "ckpts" / "toys.safetensors").unlink()
    with pytest.raises(MissingWeights, match=r"toys\.safetensors.*its hash is wrong"):
        fetch(sha256="0" * 64)
    web.content = web.content[:-1000]
    with pytest.raises(MissingWeights, match=r"its last 0\.0 MB are missing"):
        fetch()
    assert files_in(tmp_path / "ckpts") == ["toys.safetensors.metadata"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x02}q\x00." + os.urandom(SIZE), "a pickled PyTorch file"),
        (b"PK\x03\x04" + os.urandom(SIZE), "a pickled PyTorch file"),
        (b"<!doctype html><html>" * 10_000, "a web page"),
        (b"", "it is empty"),
    ],
)
def test_what_is_no_file_of_weights_is_refused_by_its_first_bytes(
    web, fetch, tmp_path, content, said
):
    web.content = content
    with pytest.raises(UserError, match=said):
        fetch()
    assert len(web.asked) == 1
    assert not (tmp_path / "ckpts").exists()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"status": 403}, r"127\.0\.0\.1 refuses toys \(403\)\. Get it there with"),
        ({"status": 404}, r"has no toys \(404\)\. Correct the address"),
        ({"status": 500}, "answered 500 for toys"),
        ({"has_length": False}, "doesn't say how large"),
        ({"redirect": "http://example.com/x"}, "an address that must begin with https"),
        ({"redirect": "file:///etc/passwd"}, "an address that must begin with https"),
    ],
)
def test_a_server_that_does_not_give_it_is_told_in_a_sentence(web, fetch, told, said):
    for name, value in told.items():
        setattr(web, name, value)
    with pytest.raises(MissingWeights, match=said):
        fetch()


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://example.com/a.safetensors", ""),
        ("http://127.0.0.1:80/a.safetensors", ""),
        ("http://example.com/a.safetensors", "must begin with https://"),
        ("http://localhost.example.com/a", "must begin with https://"),
        ("file:///etc/passwd", "must begin with https://"),
        ("https:///a.safetensors", "names no server"),
        ("https://me:secret@example.com/a", "must hold no name and password"),
    ],
)
def test_which_addresses_may_be_asked(url, fault):
    assert address_fault(url) == fault
