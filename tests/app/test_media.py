"""``--clean-media``: what it deletes, and what it must leave."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wgp
from engine.media.inputs import portable
from engine.media.video import VideoWriter
from engine.queue import lock
from engine.queue.store import SqliteJobStore
from engine.validate import accept

pytestmark = pytest.mark.usefixtures("use_fake_family")

DAY = 86400


@pytest.fixture
def keep(settings, tmp_path):
    """A request whose start image was kept so many days ago."""

    def keep(colour, days=31):
        Image.new("RGB", (64, 48), colour).save(tmp_path / "start.png")
        data = {"model": "fake-model", "prompt": "x", "image_start": "start.png"}
        request = accept(data, folder=tmp_path, settings=settings)
        then = time.time() - days * DAY
        os.utime(request.image_start, (then, then))
        return request

    return keep


def clean(settings, *options):
    return wgp.main(["--root", str(settings.root), "--clean-media", *options])


def test_only_what_nothing_names_is_deleted(settings, keep, capsys):
    job, video, preset = keep("red"), keep("green"), keep("blue")
    recent, unused = keep("white", days=29), keep("black")
    store = SqliteJobStore(settings.root / "queue.sqlite")
    store.cancel(store.add([job])[0].id)
    store.close()
    settings.outputs.mkdir()
    tags = {"comment": portable(video, settings).to_json()}
    file = settings.outputs / "a.mp4"
    with VideoWriter(file, width=64, height=48, fps=8, tags=tags) as writer:
        writer.write(np.zeros((1, 48, 64, 3), np.uint8))
    (settings.presets / "fake").mkdir(parents=True)
    named = json.dumps({"image_start": preset.image_start})
    (settings.presets / "fake" / "own.json").write_text(named)
    own = settings.media / "holiday.png"
    own.write_bytes(b"")
    os.utime(own, (0, 0))

    before = set(settings.media.iterdir())
    assert clean(settings, "--dry-run") == 0
    assert f"unused: {unused.image_start}\n1 unused" in capsys.readouterr().out
    assert set(settings.media.iterdir()) == before
    assert clean(settings) == 0
    assert f"deleted: {unused.image_start}\n1 unused" in capsys.readouterr().out
    left = {str(file) for file in before - set(settings.media.iterdir())}
    assert left == {unused.image_start}
    assert recent.image_start not in left


def test_what_an_interrupted_copy_has_left_is_deleted_when_it_is_old(settings):
    settings.media.mkdir(parents=True)
    old, new = (settings.media / f".part-{age}" for age in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert clean(settings) == 0
    assert list(settings.media.iterdir()) == [new]


@pytest.mark.parametrize(
    "doubt", ["a broken video", "a damaged queue", "a running app"]
)
def test_nothing_is_deleted_in_doubt(settings, keep, capsys, doubt):
    unused = keep("black")
    settings.outputs.mkdir()
    if doubt == "a broken video":
        (settings.outputs / "cut.mp4").write_bytes(b"cut")
    if doubt == "a damaged queue":
        (settings.root / "queue.bad-2026.sqlite").write_bytes(b"")
    if doubt == "a running app":
        with lock.hold(settings.root):
            assert clean(settings) == 2
    else:
        assert clean(settings) == 2
    assert capsys.readouterr().err.startswith("wgp: ")
    assert Path(unused.image_start).is_file()
