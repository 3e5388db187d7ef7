"""How a run shows itself."""

import io
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console

from app.reporters import BarReporter, JsonReporter, PlainReporter, duration, pace
from engine.events import Failed, Phase, Preview, Saved, Started, Step, Timing
from engine.queue.job import Job, JobStatus
from engine.request import GenerationRequest

JOBS = [
    Job(
        id=name,
        status=JobStatus.queued,
        request=GenerationRequest(model="fake-model", prompt=prompt),
        position=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    for name, prompt in (("a", "a red [bold]ball[/bold]"), ("b", "blue " * 40))
]
STEP = Step(
    job="a", phase="denoise", step=3, total=20, seconds_per_step=1.25, seconds_left=75
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (65, "1 min 05 s"), (7384, "2 h 03 min")],
)
def test_duration_reads_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_json_reporter_prints_one_event_per_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with JsonReporter() as reporter:
        reporter.on_event(STEP)
        reporter.on_event(Saved(job="a", path="/x\n.mp4", seconds=2))
    step, saved = map(json.loads, capsys.readouterr().out.splitlines())
    assert step["event"] == "step"
    assert saved.pop("timing") is None
    assert saved == {"event": "saved", "job": "a", "path": "/x\n.mp4", "seconds": 2}


def test_plain_reporter_tells_the_course_of_a_job(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with PlainReporter(JOBS, seconds_between_steps=0) as reporter:
        reporter.on_event(Started(job="a", model="fake-model", attempt=2))
        reporter.on_event(Phase(job="a", phase="load"))
        reporter.on_event(STEP)
        reporter.on_event(Preview(job="a", step=3, image="data:image/jpeg;base64,AA"))
        reporter.on_event(STEP.model_copy(update={"phase": "decode"}))
        reporter.on_event(Failed(job="a", error="out of memory", detail="Traceback"))
    assert capsys.readouterr().out.splitlines() == [
        "[1/2] a red [bold]ball[/bold]: started with fake-model (attempt 2)",
        "[1/2] a red [bold]ball[/bold]: Loading the model",
        "[1/2] a red [bold]ball[/bold]: step 3/20, 1.25 s/step, 1 min 15 s left",
        "[1/2] a red [bold]ball[/bold]: frame 3/20, 1.25 s/frame, 1 min 15 s left",
        "[1/2] a red [bold]ball[/bold]: failed: out of memory",
    ]


def test_verbose_0_tells_only_how_jobs_end(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainReporter(JOBS, verbose=0) as reporter:
        reporter.on_event(Started(job="a", model="fake-model", attempt=1))
        reporter.on_event(Phase(job="a", phase="load"))
        reporter.on_event(STEP)
        reporter.on_event(Failed(job="a", error="out of memory", detail="Traceback"))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("failed: out of memory")


def test_verbose_2_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainReporter(JOBS, verbose=2) as reporter:
        reporter.on_event(Failed(job="a", error="out of memory", detail="Traceback"))
    assert capsys.readouterr().out.endswith("failed: out of memory\nTraceback\n")


def test_log_is_not_filled_with_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainReporter(JOBS, seconds_between_steps=60) as reporter:
        for _ in range(50):
            reporter.on_event(STEP)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_bars_show_phase_and_pace_and_leave_the_result() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200)
    with BarReporter(JOBS, console=console) as reporter:
        reporter.on_event(Started(job="a", model="fake-model", attempt=1))
        reporter.on_event(Phase(job="a", phase="denoise"))
        reporter.on_event(STEP)
        reporter._progress.refresh()
        timing = Timing(denoise=84, steps=20, seconds_per_step=4.2)
        reporter.on_event(Saved(job="a", path="/out/a.mp4", seconds=90, timing=timing))
    shown = screen.getvalue()
    assert "[1/2] a red [bold]ball[/bold]\n" in shown.replace("\r", "")
    assert "Making the video" in shown
    assert "step 3/20, 1.25 s/step, 1 min 15 s left" in shown
    assert "saved /out/a.mp4 after 1 min 30 s (20 steps of 4.2 s)" in shown


def test_downloads_are_told_in_mebibytes() -> None:
    step = Step(
        job="a",
        phase="download",
        step=512,
        total=26000,
        seconds_per_step=1 / 85,
        seconds_left=300,
    )
    assert pace(step) == "512 of 26,000 MiB, 85 MiB/s, 5 min 00 s left"
