import hashlib
import json
import stat
import struct
import zipfile

import pytest
from PIL import Image

from engine.errors import RequestError, UnreadableFile, UserError
from engine.queue import archive, zip_reader
from engine.queue.job import JobStatus
from engine.queue.store import SqliteJobStore
from engine.validate import accept

REQUEST = {"schema": 1, "model": "fake-model", "prompt": "a red ball", "seed": 1}


@pytest.fixture(autouse=True)
def fake_family(use_fake_family):
    pass


@pytest.fixture
def store(settings):
    settings.root.mkdir(parents=True)
    opened = SqliteJobStore(settings.root / "queue.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def other(tmp_path, settings):
    """Another data folder: its settings and its store."""
    elsewhere = settings.model_copy(update={"root": tmp_path / "other"})
    opened = SqliteJobStore(elsewhere.root / "queue.sqlite")
    yield elsewhere, opened
    opened.close()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "queue.zip"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "shots" / "start.png"
    path.parent.mkdir()
    Image.new("RGB", (64, 48), "red").save(path)
    return path


def add(store, settings, folder=None, **values):
    request = accept({**REQUEST, **values}, folder=folder, settings=settings)
    return store.add([request])[0]


def write(file, document, media=()):
    """A zip with this queue.json (text or what is to be JSON) and these entries."""
    text = document if isinstance(document, str) else json.dumps(document)
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("queue.json", text)
        for name, content in media:
            made.writestr(name, content)


def queue_of(*requests, **media):
    jobs = [
        {"id": f"{number:012x}", "request": request, "media": media}
        for number, request in enumerate(requests)
    ]
    return {"schema": 1, "jobs": jobs}


def medium(content, ending="png"):
    return f"media/{hashlib.sha256(content).hexdigest()}.{ending}", content


def refusal(file, store, settings, kind=UnreadableFile):
    """What is said when ``file`` is restored; nothing may have changed then."""
    before = {
        path for path in settings.root.rglob("*") if "queue.sqlite" not in str(path)
    }
    with pytest.raises(kind) as refused:
        archive.restore(file, store, settings)
    assert store.list_jobs() == []
    after = {
        path for path in settings.root.rglob("*") if "queue.sqlite" not in str(path)
    }
    assert after == before
    return str(refused.value)


def test_saved_queue_comes_back_elsewhere_with_its_media(
    store, settings, other, file, picture
):
    folder = picture.parent
    jobs = [
        add(store, settings, prompt="one", num_frames=17, guidance_scale=2.5),
        add(store, settings, folder, prompt="two", image_start="start.png"),
        add(store, settings, folder, prompt="three", image_start="start.png"),
    ]
    archive.save(jobs, file, settings.media)
    elsewhere, store2 = other
    restored = archive.restore(file, store2, elsewhere)

    assert restored == store2.list_jobs(JobStatus.queued)
    assert [job.id for job in restored] == [job.id for job in jobs]
    assert restored[0].request == jobs[0].request
    kept = elsewhere.media / f"{hashlib.sha256(picture.read_bytes()).hexdigest()}.png"
    assert restored[1].request.image_start == str(kept)
    assert kept.read_bytes() == picture.read_bytes()
    assert list(elsewhere.media.iterdir()) == [kept]
    same = restored[1].request.with_values(image_start=jobs[1].request.image_start)
    assert same == jobs[1].request


def test_pinned_media_come_back_elsewhere_in_their_order(
    store, settings, other, file, picture
):
    Image.new("RGB", (64, 48), "blue").save(picture.parent / "end.png")
    conditions = [
        {"file": "end.png", "frame_index": 8, "strength": 0.5},
        {"file": "start.png", "frame_index": 0},
        {"file": "start.png", "frame_index": 4},
    ]
    job = add(store, settings, picture.parent, conditions=conditions)
    archive.save([job], file, settings.media)
    first, _ = medium((picture.parent / "end.png").read_bytes())
    second, _ = medium(picture.read_bytes())
    with zipfile.ZipFile(file) as saved:
        [written] = json.loads(saved.read("queue.json"))["jobs"]
    assert written["media"] == {"conditions": [first, second, second]}
    assert written["request"]["conditions"] == [
        {"frame_index": 8, "strength": 0.5},
        {"frame_index": 0},
        {"frame_index": 4},
    ]

    elsewhere, store2 = other
    [restored] = archive.restore(file, store2, elsewhere)
    assert [
        (each.file, each.frame_index, each.strength)
        for each in restored.request.conditions
    ] == [
        (str(elsewhere.media / first.removeprefix("media/")), 8, 0.5),
        (str(elsewhere.media / second.removeprefix("media/")), 0, 1.0),
        (str(elsewhere.media / second.removeprefix("media/")), 4, 1.0),
    ]


@pytest.mark.parametrize(
    ("conditions", "files", "told"),
    [
        ([{"file": "/etc/passwd", "frame_index": 0}], 0, "under 'media'"),
        ([{"frame_index": 0}], 0, "condition 1: file is missing"),
        ([{"frame_index": 0}], 2, "holds 2 files for 1 conditions"),
        (None, 1, "holds 1 files for 0 conditions"),
        ([7], 1, "holds 1 files for 0 conditions"),
        ({"file": "x"}, 0, "under 'media'"),
    ],
)
def test_pinned_media_that_do_not_fit_are_refused(
    store, settings, file, picture, conditions, files, told
):
    entry, content = medium(picture.read_bytes())
    request = {**REQUEST, "conditions": conditions} if conditions else REQUEST
    media = {"conditions": [entry] * files} if files else {}
    write(file, queue_of(request, **media), [(entry, content)])
    message = refusal(file, store, settings, RequestError)
    assert "job 1 of 1: " in message
    assert told in message


def test_saved_file_has_the_promised_form(store, settings, file, picture):
    folder = picture.parent
    job = add(store, settings, folder, image_start="start.png", width=96)
    archive.save([job], file, settings.media)
    entry, _ = medium(picture.read_bytes())
    with zipfile.ZipFile(file) as saved:
        assert sorted(saved.namelist()) == [entry, "queue.json"]
        document = json.loads(saved.read("queue.json"))
        assert saved.read(entry) == picture.read_bytes()
    [written] = document["jobs"]
    assert document["schema"] == 1
    assert written["id"] == job.id
    assert written["media"] == {"image_start": entry}
    assert written["request"]["width"] == 96
    assert str(settings.root) not in json.dumps(document)
    assert list(file.parent.glob(".*")) == []


def test_fields_with_several_files_are_saved_as_lists(
    store, settings, file, picture, monkeypatch
):
    job = add(store, settings)
    values = job.request.with_values(image_refs=[str(picture), str(picture)])
    archive.save([job.model_copy(update={"request": values})], file, settings.media)
    with zipfile.ZipFile(file) as saved:
        [written] = json.loads(saved.read("queue.json"))["jobs"]
    entry, _ = medium(picture.read_bytes())
    assert written["media"] == {"image_refs": [entry, entry]}


def test_job_whose_file_is_gone_can_not_be_saved(store, settings, file, picture):
    job = add(store, settings, picture.parent, image_start="start.png")
    for kept in settings.media.iterdir():
        kept.unlink()
    with pytest.raises(UserError, match=f"can't save job {job.id}: its image_start"):
        archive.save([job], file, settings.media)
    assert not file.exists()
    assert list(file.parent.glob(".*")) == []


def test_ids_that_exist_are_replaced(store, settings, file):
    job = add(store, settings)
    archive.save([job], file, settings.media)
    [again] = archive.restore(file, store, settings)
    assert again.id != job.id
    assert again.request == job.request
    assert len(store.list_jobs()) == 2


def test_restored_jobs_go_behind_those_that_wait(store, settings, file):
    saved = [add(store, settings, prompt=prompt) for prompt in ("a", "b")]
    archive.save(saved, file, settings.media)
    store.clear()
    add(store, settings, prompt="first")
    archive.restore(file, store, settings)
    assert [job.request.prompt for job in store.list_jobs()] == ["first", "a", "b"]


def test_empty_queue_can_be_saved_and_restored(store, settings, file):
    archive.save([], file, settings.media)
    assert archive.restore(file, store, settings) == []


def test_file_that_is_no_zip_is_refused(store, settings, file):
    for content in (b"", b"hello", b'{"schema": 1}', b"PK\x03\x04 not really"):
        file.write_bytes(content)
        told = refusal(file, store, settings)
        assert told == (
            "queue.zip isn't a saved queue: it isn't a zip file, or not a whole one"
        )


def test_missing_file_is_refused(store, settings, file):
    assert "No such file" in refusal(file, store, settings)


def test_file_that_was_cut_is_refused(store, settings, file):
    write(file, queue_of(REQUEST))
    whole = file.read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert "isn't a saved queue" in refusal(file, store, settings)


def test_every_flipped_byte_is_noticed_or_harmless(store, settings, file):
    write(file, queue_of(REQUEST))
    whole = file.read_bytes()
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        file.write_bytes(damaged)
        try:
            [job] = archive.restore(file, store, settings)
        except (UnreadableFile, RequestError):
            assert store.list_jobs() == []
        else:
            assert job.request.prompt == "a red ball"
            store.remove(job.id)


def test_encrypted_file_is_refused(store, settings, file):
    write(file, queue_of(REQUEST))
    content = bytearray(file.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + offset
        content[at] |= 1
    file.write_bytes(content)
    assert "'queue.json' is encrypted" in refusal(file, store, settings)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "/etc/passwd",
        "media/../../evil.png",
        "media\\evil.png",
        "C:evil.png",
        "media/",
        "media/start.png",
        "media/" + "a" * 63 + ".png",
        "media/" + "A" * 64 + ".png",
        "media/" + "a" * 64 + "/x.png",
        "media/" + "a" * 64 + ".png\n",
        "other.json",
    ],
)
def test_entries_with_other_names_are_refused(store, settings, file, name):
    write(file, queue_of(REQUEST), [(name, b"x")])
    told = refusal(file, store, settings)
    assert "queue.zip isn't a saved queue: " in told
    assert "doesn't belong into one" in told


def test_link_is_refused(store, settings, file):
    entry = "media/" + "a" * 64 + ".png"
    write(file, queue_of(REQUEST))
    with zipfile.ZipFile(file, "a") as made:
        link = zipfile.ZipInfo(entry)
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, "/etc/passwd")
    assert "is a link" in refusal(file, store, settings)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_entry_that_is_there_twice_is_refused(store, settings, file):
    write(file, queue_of(REQUEST), [("queue.json", "{}")])
    assert "'queue.json' is there twice" in refusal(file, store, settings)


def test_bomb_is_refused_before_it_is_unpacked(store, settings, file):
    zeros = b"\0" * (20 << 20)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(*medium(zeros))
        made.writestr("queue.json", json.dumps(queue_of(REQUEST)))
    assert f"would unpack to {20 << 20} bytes" in refusal(file, store, settings)


def test_bomb_that_lies_about_its_size_unpacks_no_further(
    store, settings, file, monkeypatch
):
    content = b"\0" * (1 << 20)
    entry, _ = medium(content)
    document = queue_of(REQUEST, image_start=entry)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("queue.json", json.dumps(document))
        made.writestr(entry, content)
    raw = bytearray(file.read_bytes())
    at = raw.rindex(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<I", 1000)  # uncompressed size
    file.write_bytes(raw)
    assert f"{entry} in queue.zip is damaged" in refusal(file, store, settings)


def test_too_much_in_all_is_refused(store, settings, file, monkeypatch):
    monkeypatch.setattr(zip_reader, "MOST_BYTES", 1000)
    write(file, queue_of(REQUEST), [medium(b"x" * 1000)])
    assert "would unpack to more than" in refusal(file, store, settings)


def test_too_many_entries_are_refused(store, settings, file, monkeypatch):
    monkeypatch.setattr(zip_reader, "MOST_ENTRIES", 3)
    write(file, queue_of(REQUEST), [medium(bytes([n])) for n in range(3)])
    assert "has 4 entries" in refusal(file, store, settings)


def test_zip_without_queue_json_is_refused(store, settings, file):
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(*medium(b"x"))
    assert refusal(file, store, settings) == (
        "queue.zip isn't a saved queue: it has no queue.json"
    )


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ('{"schema": 1, "jobs": [', "queue.json in queue.zip isn't JSON"),
        ("[" * 100_000, "too deeply nested"),
        ("[]", "queue.json in queue.zip"),
        ("NaN", "queue.json in queue.zip"),
        ('{"jobs": []}', "queue.json in queue.zip: schema"),
        ('{"schema": 0, "jobs": []}', "queue.json in queue.zip: schema"),
        ('{"schema": 1}', "queue.json in queue.zip: jobs"),
        ('{"schema": 1, "jobs": {}}', "queue.json in queue.zip: jobs"),
        ('{"schema": 1, "jobs": [], "x": 1}', "queue.json in queue.zip: x"),
        ('{"schema": 1, "jobs": [{"id": "a"}]}', "jobs.0.request"),
        ('{"schema": 1, "jobs": [{"id": 7, "request": {}}]}', "jobs.0.id"),
        ('{"schema": 9, "jobs": [], "new": 1}', "newer version of this app: its"),
        ("\xff", "queue.json in queue.zip isn't JSON"),
    ],
)
def test_broken_queue_json_is_refused(store, settings, file, document, told):
    write(file, document)
    assert told in refusal(file, store, settings)


def test_huge_queue_json_is_refused(store, settings, file):
    write(file, json.dumps(queue_of({**REQUEST, "prompt": "x" * (17 << 20)})))
    assert "larger than 16 MiB" in refusal(file, store, settings)


@pytest.mark.parametrize(
    ("values", "field", "told"),
    [
        ({"colour": "red"}, "colour", "no such field"),
        ({"guidance_scale": float("nan")}, "guidance_scale", "finite number"),
        ({"num_frames": -1}, "num_frames", "must be at least 1"),
        ({"model": "nope"}, "model", "no model is called 'nope'"),
        ({"prompt": ""}, "prompt", "is empty"),
        (
            {"image_start": "/etc/passwd"},
            "image_start",
            "names its files under 'media'",
        ),
        ({"image_refs": ["/etc/passwd"]}, "image_refs", "under 'media'"),
        ({"control_video": "x.mp4"}, "control_video", "under 'media'"),
    ],
)
def test_wrong_request_refuses_all_and_names_job_and_field(
    store, settings, file, values, field, told
):
    write(file, queue_of(REQUEST, {**REQUEST, **values}, REQUEST))
    with pytest.raises(RequestError) as refused:
        archive.restore(file, store, settings)
    [problem] = refused.value.problems
    assert problem.field == field
    assert problem.message.startswith("job 2 of 3: ")
    assert told in problem.message
    refusal(file, store, settings, RequestError)


def test_all_problems_of_all_jobs_are_told(store, settings, file):
    bad = {**REQUEST, "num_frames": -1, "fps": 0}
    write(file, queue_of(bad, REQUEST, {**REQUEST, "width": 17}))
    with pytest.raises(RequestError) as refused:
        archive.restore(file, store, settings)
    fields = [problem.field for problem in refused.value.problems]
    assert sorted(fields) == ["fps", "num_frames", "width"]


def test_medium_with_another_content_than_its_name_says_is_refused(
    store, settings, file
):
    entry = "media/" + "0" * 64 + ".png"
    write(file, queue_of(REQUEST, image_start=entry), [(entry, b"something else")])
    assert f"{entry} in queue.zip is damaged: its content" in refusal(
        file, store, settings
    )


@pytest.mark.parametrize(
    ("media", "told"),
    [
        ({"image_start": "media/gone.png"}, "image_start: .*isn't in queue.zip"),
        ({"image_start": "/etc/passwd"}, "image_start: .*isn't in queue.zip"),
        ({"prompt": "queue.json"}, "prompt: .*is no field that takes a file"),
        ({"control_video": "queue.json"}, "queue.json in queue.zip is damaged"),
    ],
)
def test_media_that_are_not_there_are_refused(store, settings, file, media, told):
    write(file, queue_of(REQUEST, **media))
    with pytest.raises((RequestError, UnreadableFile), match=told):
        archive.restore(file, store, settings)
    assert store.list_jobs() == []


def test_medium_that_the_model_does_not_take_is_refused(store, settings, file, picture):
    entry, content = medium(picture.read_bytes())
    write(file, queue_of(REQUEST, control_mask=entry), [(entry, content)])
    told = refusal(file, store, settings, RequestError)
    assert "control_mask: job 1 of 1: fake-model doesn't take" in told


def test_entry_that_nobody_names_is_not_unpacked(store, settings, file):
    write(file, queue_of(REQUEST), [medium(b"stowaway")])
    archive.restore(file, store, settings)
    assert not settings.media.exists()
