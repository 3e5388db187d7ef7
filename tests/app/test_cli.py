"""``wgp.py --process FILE``: what runs, what is refused, and what it says."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import wgp
from engine.media.metadata import read_request
from engine.settings import PROJECT
from tests.fakes import fake_worker_main

pytestmark = pytest.mark.usefixtures("use_fake_family")

RED = {"model": "fake-model", "prompt": "a red square", "seed": 7}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def process(file: Path, root: Path, *options: str) -> int:
    argv = ["--process", str(file), "--root", str(root), "--gpu", "cpu", *options]
    return wgp.main(argv, worker=fake_worker_main)


def write(folder: Path, data: object, name: str = "request.json") -> Path:
    file = folder / name
    file.write_text(data if isinstance(data, str) else json.dumps(data))
    return file


def videos(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mp4"))


def test_one_request_becomes_one_video_with_its_settings(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert process(write(tmp_path, RED), root) == 0
    (video,) = videos(root / "outputs")
    made_from = read_request(video)
    assert (made_from.prompt, made_from.seed) == ("a red square", 7)
    assert f"saved {video}" in capsys.readouterr().out


def test_list_of_requests_runs_in_its_order_into_the_output_folder(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["a red square", "a blue square", "a green square"]
    file = write(tmp_path, [{**RED, "prompt": prompt} for prompt in prompts])
    out = tmp_path / "out"
    assert process(file, root, "--output-dir", str(out), "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    saved = [event["path"] for event in events if event["event"] == "saved"]
    assert [read_request(Path(path)).prompt for path in saved] == prompts
    assert sorted(saved) == [str(path) for path in videos(out)]


def test_json_shows_each_job_from_start_to_file(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert process(write(tmp_path, RED), root, "--json") == 0
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "saved"
    assert {"phase", "step"} <= set(kinds)
    steps = [event for event in events if event["event"] == "step"]
    assert max(event["step"] for event in steps) <= max(e["total"] for e in steps)
    assert len({event["job"] for event in events}) == 1


def test_one_failed_job_leaves_the_others_and_ends_with_one(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, [{**RED, "prompt": "please fail"}, RED])
    assert process(file, root, "--json") == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (failed,) = [event for event in events if event["event"] == "failed"]
    assert "told to fail" in failed["error"]
    assert len(videos(root / "outputs")) == 1


def test_crash_of_the_worker_is_one_failed_job(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, [{**RED, "prompt": "please crash"}, RED])
    assert process(file, root, "--json") == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (failed,) = [event for event in events if event["event"] == "failed"]
    assert "SIGSEGV" in failed["error"] + failed["detail"]
    assert len(videos(root / "outputs")) == 1


def test_dry_run_shows_complete_requests_and_writes_nothing(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert process(write(tmp_path, RED), root, "--dry-run") == 0
    (complete,) = json.loads(capsys.readouterr().out)
    assert complete["width"] == 64
    assert complete["num_inference_steps"] == 4
    assert not root.exists()


def test_what_a_dry_run_shows_is_itself_a_file_to_run(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process(write(tmp_path, [RED, RED]), root, "--dry-run")
    again = write(tmp_path, capsys.readouterr().out, "again.json")
    assert process(again, root, "--dry-run", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["valid", "valid"]


def test_start_image_beside_the_file_is_used(tmp_path: Path, root: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 48), (0, 0, 255)).save(tmp_path / "first.png")
    file = write(tmp_path, {**RED, "image_start": "first.png"})
    assert process(file, root) == 0
    (video,) = videos(root / "outputs")
    kept = read_request(video).image_start
    assert kept is not None
    assert (root / kept).is_file()


def put_media(folder: Path) -> None:
    """``sky.png``, which is blue, and ``walk.mp4``: nine grey frames."""
    import numpy as np
    from PIL import Image

    from engine.media.video import VideoWriter

    Image.new("RGB", (64, 48), (0, 0, 255)).save(folder / "sky.png")
    with VideoWriter(
        folder / "walk.mp4", width=64, height=48, fps=8.0, tags={}
    ) as video:
        video.write(np.full((9, 48, 64, 3), 90, np.uint8))


PINNED = {
    **RED,
    "source_video": "walk.mp4",
    "conditions": [{"file": "sky.png", "frame_index": -1, "strength": 0.5}],
    "vae_tile_size": 64,
}


def test_media_beside_the_file_are_shown_by_a_dry_run_and_used(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.media.video import probe

    put_media(tmp_path)
    file = write(tmp_path, PINNED)
    assert process(file, root, "--dry-run", "--json") == 0
    valid = json.loads(capsys.readouterr().out)["request"]
    assert valid["overlap_frames"] == 5
    assert valid["conditions"] == PINNED["conditions"]
    assert not root.exists()
    assert process(file, root) == 0
    (video,) = videos(root / "outputs")
    assert probe(video).num_frames == 9 - 5 + 9
    made_from = read_request(video)
    assert (made_from.vae_tile_size, made_from.overlap_frames) == (64, 5)
    (pinned,) = made_from.conditions
    assert (pinned.frame_index, pinned.strength) == (-1, 0.5)
    assert (root / pinned.file).is_file()


def test_sidecar_stands_beside_the_video(tmp_path: Path, root: Path) -> None:
    assert process(write(tmp_path, RED), root, "--sidecar") == 0
    (video,) = videos(root / "outputs")
    stored = json.loads(video.with_suffix(".json").read_text())
    assert stored["prompt"] == "a red square"


BAD_REQUESTS = {
    "negative length": ({**RED, "num_frames": -1}, "num_frames"),
    "unknown model": ({**RED, "model": "wan9"}, "model"),
    "unknown field": ({**RED, "sampler": "euler"}, "sampler"),
    "empty prompt": ({**RED, "prompt": "  "}, "prompt"),
    "guidance that is no number": ({**RED, "guidance_scale": float("nan")}, "guidance"),
    "size that is no multiple": ({**RED, "width": 70}, "width"),
    "start image elsewhere": ({**RED, "image_start": "/etc/passwd"}, "image_start"),
    "start image above": ({**RED, "image_start": "../../x.png"}, "image_start"),
    "pinned file elsewhere": (
        {**RED, "conditions": [{"file": "/etc/passwd", "frame_index": 0}]},
        "conditions: condition 1: '/etc/passwd' isn't in a folder that may be used",
    ),
    "tile that is too small": ({**RED, "vae_tile_size": 1}, "at least 64, is 1"),
    "overlap with nothing": ({**RED, "overlap_frames": 5}, "overlap_frames"),
    "text for a number": ({**RED, "seed": "1"}, "seed"),
    "no model": ({"prompt": "x"}, "model"),
    "not an object": (["a red square"], "object"),
    "empty list": ([], "empty"),
    "broken JSON": ('{"model": "fake-model",', "JSON"),
}


@pytest.mark.parametrize(
    ("data", "named"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys()
)
def test_bad_request_is_refused_in_a_sentence(
    data: object,
    named: str,
    tmp_path: Path,
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write(tmp_path, data)
    assert process(file, root) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert named in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == [file]


def test_one_bad_request_stops_the_whole_file_and_says_which(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, [RED, {**RED, "num_frames": -1, "width": 70}])
    assert process(file, root, "--json") == 2
    captured = capsys.readouterr()
    assert "request 2 of 2" in captured.err
    (event,) = [json.loads(line) for line in captured.out.splitlines()]
    assert event["event"] == "invalid"
    assert {problem["field"] for problem in event["problems"]} == {
        "num_frames",
        "width",
    }
    assert not root.exists()


def test_file_that_is_missing_is_named(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert process(tmp_path / "nothing.json", root) == 2
    assert "nothing.json" in capsys.readouterr().err
    assert not root.exists()


@pytest.mark.parametrize("content", [b"no zip at all", b"PK\x03\x04 cut off", b""])
def test_zip_that_is_none_is_refused(
    content: bytes, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "queue.zip"
    file.write_bytes(content)
    assert process(file, root) == 2
    error = capsys.readouterr().err
    assert "queue.zip" in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == [file]


def test_saved_queue_runs_whatever_its_name(tmp_path: Path, root: Path) -> None:
    file = tmp_path / "queue.backup"
    jobs = [{"id": "one", "request": RED, "media": {}}]
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("queue.json", json.dumps({"schema": 1, "jobs": jobs}))
    assert process(file, root, "--dry-run") == 0
    assert not root.exists()
    assert process(file, root) == 0
    assert len(videos(root / "outputs")) == 1


def test_interrupt_cancels_and_leaves_nothing_half_written(
    tmp_path: Path, root: Path
) -> None:
    file = write(tmp_path, [{**RED, "prompt": "stall"}, RED])
    command = [sys.executable, "-m", "tests.fake_app", "--process", str(file)]
    command += ["--root", str(root), "--gpu", "cpu", "--json"]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as app:
        assert app.stdout is not None
        lines = []
        for line in app.stdout:
            lines.append(line)
            if '"step"' in line:
                break
        began = time.monotonic()
        os.kill(app.pid, signal.SIGINT)
        rest, errors = app.communicate(timeout=20)
    assert app.returncode == 130
    assert time.monotonic() - began < 10
    assert "Traceback" not in errors
    events = [json.loads(line) for line in [*lines, *rest.splitlines()]]
    ends = [event for event in events if event["event"] == "cancelled"]
    assert len({event["job"] for event in ends}) == len(ends) == 2
    left = [path for path in (root / "outputs").rglob("*") if path.is_file()]
    assert left == []


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_videos_are_made_though_nobody_reads_what_is_printed(
    tmp_path: Path, root: Path
) -> None:
    command = [sys.executable, "-m", "tests.fake_app", "--root", str(root)]
    command += ["--process", str(write(tmp_path, [RED, RED])), "--gpu", "cpu"]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as app:
        assert app.stdout is not None and app.stderr is not None
        app.stdout.readline()
        app.stdout.close()
        errors = app.stderr.read()
    assert (app.returncode, errors) == (0, b"")
    assert len(videos(root / "outputs")) == 2


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize("where", ["| :", ">&-"])
def test_a_list_that_nobody_reads_ends_without_a_word(where: str) -> None:
    line = f"{sys.executable} wgp.py --list-models --gpu cpu {where}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=PROJECT, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_without_the_prompts_letters_shows_them_by_number(
    tmp_path: Path,
) -> None:
    request = {"model": "wan-demo", "prompt": "\u732b \U0001f600", "seed": 1}
    file = write(tmp_path, request)
    command = [sys.executable, "wgp.py", "--process", str(file), "--dry-run"]
    for options in ([], ["--json"]):
        done = subprocess.run(
            [*command, *options],
            cwd=PROJECT,
            env={**os.environ, "PYTHONIOENCODING": "cp1252"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert b"\\u732b" in done.stdout
    assert json.loads(done.stdout)["request"]["prompt"] == request["prompt"]


def test_a_huge_file_is_refused_without_being_read(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "huge.json"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert process(file, root) == 2
    assert "is larger than 16 MiB" in capsys.readouterr().err
