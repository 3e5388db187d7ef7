"""What pressing Generate does with good and with bad input."""

import json
from pathlib import Path

import pytest
from PIL import Image

from app.ui.services import Services
from engine.family import all_variants
from engine.queue.job import JobStatus
from engine.request import GenerationRequest
from tests.app.ui.conftest import Desk


def test_good_form_becomes_one_waiting_job(desk: Desk, services: Services) -> None:
    desk.fill(prompt="a red square", num_frames=13.0, seed=5.0, guidance_scale=2)
    updates = desk.tab.submit(desk.values)
    (job,) = services.store.list_jobs()
    assert job.status is JobStatus.queued
    assert job.request.prompt == "a red square"
    assert (job.request.num_frames, job.request.seed) == (13, 5)
    assert job.request.guidance_scale == 2.0
    assert desk.reasons(updates) == {}


def test_random_seed_is_drawn_when_the_job_is_added(
    desk: Desk, services: Services
) -> None:
    desk.fill(prompt="a red square", seed=-1)
    desk.tab.submit(desk.values)
    desk.tab.submit(desk.values)
    first, second = (job.request.seed for job in services.store.list_jobs())
    assert first >= 0
    assert first != second
    assert desk.tab.last_seed() == second


BAD_FIELDS = {
    "negative length": ({"num_frames": -1}, "num_frames", "at least 1, is -1"),
    "unknown model": ({"model": "wan9"}, "model", "o model is called"),
    "empty prompt": ({"prompt": " \n"}, "prompt", "empty"),
    "guidance that is no number": (
        {"guidance_scale": float("nan")},
        "guidance_scale",
        "finite",
    ),
    "size that is no multiple": ({"width": 70}, "width", "64 is the nearest"),
    "length between two": ({"num_frames": 14}, "num_frames", "13 and 17 are the"),
    "tile that is too small": ({"vae_tile_size": 1}, "vae_tile_size", "at least 64"),
    "prompt with an empty part": ({"prompt": "a | "}, "prompt", "art 2 of 2 is empty"),
    "too long": ({"num_frames": 85}, "num_frames", "at most 81"),
    "start image elsewhere": ({"image_start": "/etc/passwd"}, "image_start", ""),
    "half a frame": ({"num_frames": 9.5}, "num_frames", "whole number"),
}


@pytest.mark.parametrize(
    ("fields", "name", "reason"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys()
)
def test_bad_field_is_marked_with_the_reason_and_nothing_is_written(
    fields: dict[str, object],
    name: str,
    reason: str,
    desk: Desk,
    services: Services,
) -> None:
    desk.fill(**{"prompt": "a red square", **fields})
    updates = desk.tab.submit(desk.values)
    assert list(desk.reasons(updates)) == [name]
    assert reason in desk.reasons(updates)[name]
    assert reason in updates[desk.tab.form.problems]
    assert services.store.list_jobs() == []
    assert not services.settings.media.exists()


def test_all_bad_fields_are_marked_at_once(desk: Desk) -> None:
    desk.fill(prompt="", width=70, fps=-1)
    updates = desk.tab.submit(desk.values)
    assert set(desk.reasons(updates)) == {"prompt", "width", "fps"}
    assert updates[desk.tab.form.advanced]["open"] is True


def test_marks_go_away_when_the_form_is_right(desk: Desk) -> None:
    desk.fill(prompt="")
    desk.tab.submit(desk.values)
    desk.fill(prompt="a red square")
    updates = desk.tab.submit(desk.values)
    assert desk.reasons(updates) == {}
    assert updates[desk.tab.form.fields["prompt"]]["info"] == ""
    assert updates[desk.tab.form.problems] == ""


def test_uploaded_start_image_is_kept_for_its_turn(
    desk: Desk, services: Services
) -> None:
    upload = services.uploads / "abc" / "first.png"
    upload.parent.mkdir(parents=True)
    Image.new("RGB", (64, 48), (0, 0, 255)).save(upload)
    desk.fill(prompt="a red square", image_start=str(upload))
    desk.tab.submit(desk.values)
    upload.unlink()
    (job,) = services.store.list_jobs()
    assert job.request.image_start is not None
    kept = Path(job.request.image_start)
    assert kept.parent == services.settings.media
    assert kept.is_file()


def test_fields_without_a_use_are_not_sent(desk: Desk, services: Services) -> None:
    desk.fill(prompt="a red square", overlap_frames=5, vae_tile_size=-1)
    desk.tab.submit(desk.values)
    (job,) = services.store.list_jobs()
    assert (job.request.overlap_frames, job.request.vae_tile_size) == (None, None)


@pytest.mark.parametrize("tile", [0, 96])
def test_tiling_is_sent_and_comes_back(
    tile: int, desk: Desk, services: Services
) -> None:
    desk.fill(prompt="a red square", vae_tile_size=tile)
    desk.tab.submit(desk.values)
    (job,) = services.store.list_jobs()
    assert job.request.vae_tile_size == tile
    updates = desk.tab.latest()
    field = updates[desk.tab.form.fields["vae_tile_size"]]
    assert (field["value"], field["visible"]) == (tile, True)
    assert tile in [value for _, value in field["choices"]]


def test_a_step_cache_is_sent_and_comes_back(desk: Desk, services: Services) -> None:
    desk.fill(prompt="a red cube", step_cache_threshold=0.02)
    desk.tab.submit(desk.values)
    desk.fill(step_cache="forecast")
    desk.tab.submit(desk.values)
    plain, cached = (job.request for job in services.store.list_jobs())
    assert (plain.step_cache, plain.step_cache_threshold) == (None, None)
    assert (cached.step_cache, cached.step_cache_threshold) == ("forecast", 0.02)
    for request, value in ((plain, "none"), (cached, "forecast")):
        assert desk.shown(desk.tab.show(request))["step_cache"] == value


def test_model_without_media_shows_no_fields_for_them(desk: Desk) -> None:
    updates = desk.tab.change_model("wan2.2-t2v-a14b")
    form = desk.tab.form
    hidden = [form.media_group, form.continuing, form.pinning]
    hidden.append(form.fields["image_start"])
    assert [updates[component]["visible"] for component in hidden] == [False] * 4
    assert "follow one another" not in updates[form.examples]


@pytest.mark.parametrize(
    ("model", "is_shown"), [("fake-model", True), ("fake-fetched", False)]
)
def test_tiling_is_shown_where_the_model_has_it(
    model: str, desk: Desk, *, is_shown: bool
) -> None:
    updates = desk.tab.change_model(model)
    tiling = updates[desk.tab.form.fields["vae_tile_size"]]
    assert tiling["visible"] is is_shown


OWN_FIELDS = {
    "wan2.2-t2v-a14b": {"guidance_scale_2", "vae_tile_size"},
    "wan2.1-t2v-14b": {"source_video", "strength", "vae_tile_size"},
    "wan2.1-flf2v-14b-720p": {"image_start", "image_end", "vae_tile_size"},
    "wan2.1-vace-14b": {
        *("control_video", "control_mask", "image_refs", "vae_tile_size"),
    },
    "skyreels-v2-df-14b-540p": {
        *("image_start", "source_video", "overlap_frames", "ar_step"),
        "vae_tile_size",
    },
    "ltxv-demo": {
        *("image_start", "image_end", "conditions", "source_video", "overlap_frames"),
        "vae_tile_size",
    },
}


@pytest.mark.parametrize("model", OWN_FIELDS)
def test_only_fields_that_a_model_has_are_shown(model: str, desk: Desk) -> None:
    updates = desk.tab.change_model(model)
    form = desk.tab.form
    shown = {
        name
        for name, component in form.fields.items()
        if updates.get(component, {}).get("visible")
    }
    assert shown == OWN_FIELDS[model]
    assert updates[form.control_note]["visible"] is ("control_video" in shown)


def test_page_says_what_becomes_of_a_source_video(desk: Desk) -> None:
    form = desk.tab.form
    continuing = desk.tab.change_model("ltxv-demo")
    assert continuing[form.continuing]["label"] == "Continue a video"
    assert "both in one" in continuing[form.source_note]
    remaking = desk.tab.change_model("wan-demo")
    assert remaking[form.continuing]["label"] == "Remake a video"
    assert "low strength" in remaking[form.source_note]


def test_fields_of_another_model_are_left_out(desk: Desk, tmp_path: Path) -> None:
    desk.fill(strength=0.3, guidance_scale_2=2.0, ar_step=5.0, overlap_frames=9.0)
    form = desk.tab.form
    desk.fill(model="wan2.2-t2v-a14b")
    read = form.read(desk.values)
    assert read["guidance_scale_2"] == 2.0
    assert not read.keys() & {"strength", "ar_step", "overlap_frames"}
    desk.fill(model="skyreels-v2-df-14b-540p")
    assert form.read(desk.values)["ar_step"] == 5
    desk.fill(model="wan-demo")
    assert "strength" not in form.read(desk.values)
    desk.fill(source_video=str(tmp_path / "a.mp4"))
    assert form.read(desk.values)["strength"] == 0.3


def test_media_stay_when_another_model_is_chosen(desk: Desk) -> None:
    updates = desk.tab.change_model("fake-model")
    form = desk.tab.form
    assert updates[form.media_group]["visible"] is True
    assert "value" not in updates[form.fields["image_start"]]
    assert form.pinned not in updates
    assert "follow one another" in updates[form.examples]


def test_request_file_fills_every_field_it_names(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(
        json.dumps({"model": "fake-model", "prompt": "p", "num_frames": 5, "width": 96})
    )
    updates = desk.tab.restore(str(file), desk.session)
    shown = desk.shown(updates)
    assert (shown["prompt"], shown["num_frames"], shown["width"]) == ("p", 5, 96)
    assert shown["num_inference_steps"] == 4
    assert updates[desk.tab.drop] is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.mp4", b"junk", "x.mp4 isn't an MP4"),
        ("x.json", b"{", "x.json isn't JSON"),
        ("x.json", b'{"model": "wan9", "prompt": "p"}', "no model is called"),
        ("x.json", b'{"model": "fake-model", "prompt": 5}', "prompt"),
        ("x.json", b"[1]", ""),
    ],
)
def test_file_that_restores_nothing_is_told_in_a_sentence(
    name: str, content: bytes, said: str, desk: Desk, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    updates = desk.tab.restore(str(file), desk.session)
    assert desk.shown(updates) == {}
    notice = desk.session.notices["form"]
    assert notice
    assert said in notice


def test_new_page_shows_the_newest_request_with_a_seed_still_to_draw(
    desk: Desk, services: Services
) -> None:
    request = {"model": "fake-model", "prompt": "the last one", "seed": 99}
    services.store.add([GenerationRequest.model_validate(request)])
    shown = desk.shown(desk.tab.begin(desk.session))
    assert (shown["prompt"], shown["seed"]) == ("the last one", -1)


def test_settings_dropped_while_the_page_loads_are_not_overwritten(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"model": "fake-model", "prompt": "dropped"}))

    def drop_meanwhile() -> None:
        desk.tab.restore(str(file), desk.session)

    monkeypatch.setattr(desk.tab, "_newest_request", drop_meanwhile)
    assert desk.tab.begin(desk.session) == {}


def test_new_page_survives_a_request_for_a_model_it_does_not_know(
    desk: Desk, services: Services
) -> None:
    services.store.add([GenerationRequest(model="gone", prompt="p")])
    assert desk.shown(desk.tab.latest())["model"] in {"wan-demo", "fake-model"}


def test_other_model_brings_its_own_defaults_and_keeps_the_prompt(desk: Desk) -> None:
    shown = desk.shown(desk.tab.change_model("wan2.1-t2v-1.3b"))
    assert (shown["width"], shown["num_frames"]) == (832, 81)
    assert "prompt" not in shown


@pytest.mark.usefixtures("accept_every_licence")
def test_every_models_own_values_can_be_sent_as_they_are(
    desk: Desk, services: Services
) -> None:
    upload = services.uploads / "abc" / "first.png"
    upload.parent.mkdir(parents=True)
    Image.new("RGB", (64, 48), (0, 0, 255)).save(upload)
    for number, (model, variant) in enumerate(all_variants().items(), start=1):
        shown = desk.shown(desk.tab.change_model(model))
        shown |= dict.fromkeys(variant.required_media, str(upload))
        desk.fill(**{**shown, "prompt": variant.prompt_hint or "a walk"})
        updates = desk.tab.submit(desk.values)
        assert desk.reasons(updates) == {}
        assert len(services.store.list_jobs()) == number


def test_leaving_the_list_of_models_changes_nothing(desk: Desk) -> None:
    assert desk.shown(desk.tab.change_model("fake-model", "fake-model")) == {}
    assert desk.shown(desk.tab.change_model("fake-model", "wan-demo"))


def test_preset_changes_only_its_own_fields(desk: Desk, services: Services) -> None:
    folder = services.settings.presets / "fake"
    folder.mkdir(parents=True)
    (folder / "quick.json").write_text('{"num_inference_steps": 2}')
    desk.fill(prompt="mine", width=96, seed=3)
    desk.values[desk.tab.form.preset] = "quick"
    shown = desk.shown(desk.tab.apply_preset(desk.values))
    assert shown["num_inference_steps"] == 2
    assert (shown["prompt"], shown["width"], shown["seed"]) == ("mine", 96, 3)


@pytest.mark.parametrize(
    ("model", "label", "has_real_guidance"),
    [
        ("wan-demo", "Guidance", False),
        ("hunyuan-video-t2v", "Embedded guidance", True),
        ("hunyuan-video-1.5-t2v-480p", "Guidance", False),
    ],
)
@pytest.mark.usefixtures("accept_every_licence")
def test_guidance_is_named_and_sent_by_its_kind(
    desk: Desk, services: Services, model: str, label: str, has_real_guidance: bool
) -> None:
    updates = desk.tab.change_model(model)
    fields = desk.tab.form.fields
    assert updates[fields["guidance_scale"]]["label"] == label
    assert updates[fields["true_cfg_scale"]]["visible"] is has_real_guidance
    desk.fill(**desk.shown(updates))
    desk.fill(prompt="a ball", true_cfg_scale=2.0)  # left over from another model
    assert desk.reasons(desk.tab.submit(desk.values)) == {}
    (job,) = services.store.list_jobs()
    assert job.request.true_cfg_scale == (2.0 if has_real_guidance else None)
