"""Which frames of a video its input media take, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import Problem
from engine.family import Limits, ModelVariant
from engine.media.frames import count_frames, is_video
from engine.request import GenerationRequest


@dataclass(frozen=True)
class Span:
    """Frames ``start`` to ``stop - 1``, and what takes them."""

    title: str
    start: int
    stop: int


def timeline_problems(
    request: GenerationRequest, variant: ModelVariant, find: Callable[[str], Path]
) -> list[Problem]:
    """What is wrong with when the media of ``request`` are shown, at most one for each
    field. ``find`` says where a file lies; all of them can be read, and the number of
    frames and the rate are known.
    """
    fixed = [
        *_source_problems(request, variant, find),
        *_control_problems(request, variant, find),
        *_image_problems(request, variant.limits),
    ]
    if fixed:
        return fixed
    assert request.num_frames
    taken = list(_fixed_spans(request))
    sentences = []
    for number, condition in enumerate(request.conditions, start=1):
        start = condition.first_frame(request.num_frames)
        if not 0 <= start < request.num_frames:
            sentences.append(
                f"condition {number}: frame {condition.frame_index} is outside the "
                f"video; its frames are 0 to {request.num_frames - 1}, or "
                f"-{request.num_frames} to -1 from the end"
            )
            continue
        stop = start + _length(condition.file, request, start, find)
        other = next((s for s in taken if start < s.stop and s.start < stop), None)
        if other is not None:
            sentences.append(
                f"condition {number}: {_frames(start, stop)} and {other.title} "
                f"({_frames(other.start, other.stop)}) meet; move one of them"
            )
        taken.append(Span(f"condition {number}", start, stop))
    return [Problem("conditions", "; ".join(sentences))] if sentences else []


def _source_problems(
    request: GenerationRequest, variant: ModelVariant, find: Callable[[str], Path]
) -> list[Problem]:
    if variant.source_video_use == "continue":
        problem = _overlap_problem(request, variant.limits, find)
        return [problem] if problem else []
    if request.overlap_frames is not None:
        message = f"{variant.id} makes a source video anew, it continues none"
        return [Problem("overlap_frames", f"{message}; leave it out")]
    return _too_short(["source_video"], request, variant.limits, find)


def _control_problems(
    request: GenerationRequest, variant: ModelVariant, find: Callable[[str], Path]
) -> list[Problem]:
    mask = request.control_mask
    if mask is not None and request.control_video is None:
        message = "needs a control video, of which it says what to make anew"
        return [Problem("control_mask", message)]
    moving = mask is not None and is_video(find(mask))
    fields = ["control_video", "control_mask"] if moving else ["control_video"]
    return _too_short(fields, request, variant.limits, find)


def _too_short(
    fields: list[str],
    request: GenerationRequest,
    limits: Limits,
    find: Callable[[str], Path],
) -> list[Problem]:
    """Videos of which each frame of the new one needs its own."""
    assert request.num_frames and request.fps
    problems = []
    for field in fields:
        name = getattr(request, field)
        if name is None:
            continue
        there = count_frames(find(name), request.fps, request.num_frames)
        if there < request.num_frames:
            message = (
                f"has {there} frame{'s' * (there > 1)} at {request.fps:g} frames per "
                f"second, too few for a video of {request.num_frames}; it is enough "
                f"for {_below(there, limits.frames_multiple)}"
            )
            problems.append(Problem(field, message))
    return problems


def _image_problems(request: GenerationRequest, limits: Limits) -> list[Problem]:
    has_both = request.image_start is not None and request.image_end is not None
    least = limits.frames_multiple + 1
    if not has_both or not request.num_frames or request.num_frames >= least:
        return []
    message = f"must be at least {least} to go from one image to another"
    return [Problem("num_frames", f"{message}, is {request.num_frames}")]


def _overlap_problem(
    request: GenerationRequest, limits: Limits, find: Callable[[str], Path]
) -> Problem | None:
    overlap, num_frames, multiple = (
        request.overlap_frames,
        request.num_frames,
        limits.frames_multiple,
    )
    if overlap is None:
        return None
    assert num_frames and request.fps
    if request.source_video is None:
        return Problem("overlap_frames", "needs a source video to continue")
    if request.image_start is not None:
        message = "the source video gives the first frames; leave one of the two out"
        return Problem("image_start", message)
    if num_frames <= multiple:
        message = f"must be at least {multiple + 1} to continue a video"
        return Problem("num_frames", f"{message}, is {num_frames}")
    if (overlap - 1) % multiple:
        below = overlap - (overlap - 1) % multiple
        message = (
            f"{overlap} isn't {multiple}k + 1; {below} and {below + multiple} are the "
            "nearest that work"
        )
    elif overlap >= num_frames:
        message = (
            f"{overlap} frames leave nothing new in a video of {num_frames}; at most "
            f"{_below(num_frames - 1, multiple)} work"
        )
    else:
        there = count_frames(find(request.source_video), request.fps, overlap)
        if there >= overlap:
            return None
        message = (
            f"the source video has {there} frame{'s' * (there > 1)} at "
            f"{request.fps:g} frames per second; at most {_below(there, multiple)} can "
            "overlap"
        )
    return Problem("overlap_frames", message)


def _fixed_spans(request: GenerationRequest) -> Iterator[Span]:
    """What the fields without a frame of their own take."""
    assert request.num_frames
    if request.image_start is not None:
        yield Span("the start image", 0, 1)
    if request.image_end is not None:
        yield Span("the end image", request.num_frames - 1, request.num_frames)
    if request.overlap_frames is not None:
        yield Span("the source video", 0, request.overlap_frames)


def _length(
    name: str, request: GenerationRequest, start: int, find: Callable[[str], Path]
) -> int:
    """How many frames a condition takes; a clip is cut where the video ends."""
    assert request.num_frames and request.fps
    path = find(name)
    if not is_video(path):
        return 1
    return count_frames(path, request.fps, request.num_frames - start)


def _below(frames: int, multiple: int) -> int:
    """The largest ``multiple * k + 1`` up to ``frames``."""
    return (frames - 1) // multiple * multiple + 1


def _frames(start: int, stop: int) -> str:
    last = stop - 1
    return f"frame {start}" if last == start else f"frames {start} to {last}"
