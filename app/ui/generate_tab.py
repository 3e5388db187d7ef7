"""What the form's buttons do. Generating is none of it: they add to the queue."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from pydantic import ValidationError

from app.ui import lora_rows, media_files, pins, sizes
from app.ui.form import Form
from app.ui.form_notes import guidance_note, length_note, memory_note
from app.ui.licence_card import licence_card, without_terms
from app.ui.live import CHOSEN, PRESSED, Live, Session, Updates
from app.ui.media_files import shown_values
from app.ui.services import Services
from engine.catalogue import all_models, get_model
from engine.errors import Problem, RequestError, UserError
from engine.licences import accept_licence
from engine.media.metadata import read_request
from engine.outputs import Output
from engine.presets import open_preset, presets_for, save_preset
from engine.request import GenerationRequest
from engine.settings import Settings
from engine.validate import accept, problems_of, read_json


class GenerateTab:
    """The form and its handlers."""

    def __init__(
        self, services: Services, form: Form, live: Live, drop: gr.File
    ) -> None:
        self.services = services
        self.form = form
        self.live = live
        self.drop = drop
        """Where finished videos are dropped to restore the form."""

    def wire(self, generate: gr.Button) -> None:
        form, live, drop = self.form, self.live, self.drop
        # A set as inputs hands the handler a dict keyed by component.
        generate.click(
            self.submit,
            inputs={*form.inputs, live.session},
            outputs=[*form.outputs, *live.outputs],
            **PRESSED,
        )
        drop.upload(
            self.restore,
            inputs=[drop, live.session],
            outputs=[*form.outputs, *live.outputs, drop],
            **CHOSEN,
        )
        form.fields["model"].input(
            self.change_model,
            inputs=[form.fields["model"], form.chosen, form.fields["loras"]],
            outputs=form.outputs,
            **CHOSEN,
        )
        form.preset.input(
            self.apply_preset,
            inputs={*form.inputs, form.preset},
            outputs=form.outputs,
            **CHOSEN,
        )
        form.save_preset.click(
            self.keep_preset,
            inputs={*form.inputs, form.preset_name},
            outputs=form.outputs,
            **PRESSED,
        )
        form.licence.act(
            self.accept_licence,
            inputs=form.fields["model"],
            outputs=form.outputs,
            **PRESSED,
        )
        form.examples.act(_example, outputs=form.fields["prompt"], **PRESSED)
        form.dice.click(lambda: -1, outputs=form.fields["seed"], **PRESSED)
        form.reuse.click(self.last_seed, outputs=form.fields["seed"], **PRESSED)
        self._wire_guidance()
        self._wire_media()
        self._wire_size()

    def _wire_guidance(self) -> None:
        form = self.form
        names = ("negative_prompt", "guidance_scale", "true_cfg_scale")
        judged = [form.fields[name] for name in names]
        for component in judged:
            component.blur(
                partial(guidance_note, self.services.settings),
                inputs=[form.fields["model"], *judged],
                outputs=form.guidance_note,
                **CHOSEN,
            )

    def _wire_media(self) -> None:
        form = self.form
        files, model = form.fields["conditions"], form.fields["model"]
        # Not change: the form itself fills both when it shows a request.
        for added_or_removed in (files.upload, files.delete, files.clear):
            added_or_removed(
                self.pin,
                inputs={files, *form.pin_inputs},
                outputs=form.pin_outputs,
                **CHOSEN,
            )
        overlap = form.fields["overlap_frames"]
        snap = partial(_snap_frames, self.services.settings)
        overlap.blur(snap, inputs=[model, overlap], outputs=overlap, **CHOSEN)

    def _wire_size(self) -> None:
        form = self.form
        model, width, height = (
            form.fields[name] for name in ("model", "width", "height")
        )
        form.size.input(_pick_size, inputs=form.size, outputs=[width, height], **CHOSEN)
        # Each side only rounds itself: the other may be being typed just now.
        settings = self.services.settings
        for side, snap in ((width, _snap_width), (height, _snap_height)):
            side.blur(
                partial(snap, settings),
                inputs=[model, width, height],
                outputs=[side, form.size],
                **CHOSEN,
            )
        frames = form.fields["num_frames"]
        snap_frames = partial(_snap_frames, settings)
        frames.release(snap_frames, inputs=[model, frames], outputs=frames, **CHOSEN)
        length = [frames, form.fields["fps"]]
        for component in length:
            component.change(
                partial(length_note, self.services.settings),
                inputs=[*length, model],
                outputs=form.length_note,
                **CHOSEN,
            )
        for component in (width, height, frames):
            component.change(
                partial(memory_note, self.services.settings),
                inputs=[model, width, height, frames],
                outputs=form.memory_note,
                **CHOSEN,
            )

    def pin(self, values: Mapping[Component, Any]) -> Updates:
        """A row for each pinned file; those of files that were there stay."""
        files = values[self.form.fields["conditions"]]
        return self.form.show_pins(pins.rows_for(files, self.form.pin_table(values)))

    def submit(self, values: Mapping[Component, Any]) -> Updates:
        """Check the form and add its request to the queue, or mark what is wrong."""
        session: Session = values[self.live.session]
        problems: list[Problem] = []
        try:
            request = accept(
                self.form.read(values),
                folder=self.services.uploads,
                settings=self.services.settings,
            )
            self.services.store.add([request])
            session.note("form")
        except RequestError as error:
            settings = self.services.settings
            variant = all_models(settings).get(values[self.form.fields["model"]])
            problems = without_terms(error.problems, variant, settings)
        except UserError as error:  # the queue or the media can't be written
            problems = [Problem("", str(error))]
        updates = self.form.mark({}, problems)
        return {**updates, **self.live.refresh(session)}

    def restore(self, file: str, session: Session) -> Updates:
        """Fill the form from a finished video or a request in JSON."""
        updates: Updates = {}
        try:
            request = read_settings_file(Path(file))
            updates = self.show(request)
            session.form_is_used = True
            session.note("form", f"The form shows the settings of {Path(file).name}.")
        except UserError as error:
            session.note("form", str(error))
        return {**updates, **self.live.refresh(session), self.drop: None}

    def show(self, request: GenerationRequest, **instead: Any) -> Updates:
        """Updates that fill the form from ``request``, with no marks on it."""
        variant = get_model(request.model, self.services.settings)
        values = {**shown_values(request, self.services), **instead}
        return self.form.mark(self.form.fill(variant, values), [])

    def go_on(self, output: Output, how: str, model: str) -> Updates:
        """Updates that fill the form to go on from a finished video: ``how`` is the
        media field that takes it. ``model`` is what the form shows now.

        Raises ``UserError`` when no model that is here takes it, or the video can't be
        read.
        """
        made_with = output.request.model if output.request else None
        variant = media_files.ready_taker(how, self.services, made_with, model)
        if variant is None:
            raise UserError("no model whose files are here takes it")
        prepare = media_files.STEPS_ON[how]
        values = prepare(output, variant, self.services.uploads)
        updates = self.form.mark(self.form.fill(variant, values), [])
        return self._with_presets(updates, variant.id)

    def begin(self, session: Session) -> Updates:
        """Updates for a page that was just opened; none when the user was faster."""
        updates = self.latest()
        return {} if session.form_is_used else updates

    def latest(self) -> Updates:
        """Updates that show the newest request with a seed still to draw, else the
        first model whose files are here."""
        newest = self._newest_request()
        if newest is not None:
            try:
                return self._with_presets(self.show(newest, seed=-1), newest.model)
            except RequestError:  # made with a model that this copy doesn't know
                pass
        variants = all_models(self.services.settings).values()
        missing = self.services.missing
        ready = next((each for each in variants if missing(each) is None), None)
        variant = ready or next(iter(variants))
        return self._with_presets(self.form.fill(variant, {}), variant.id)

    def change_model(
        self, model: str, chosen: str = "", loras: object = None
    ) -> Updates:
        if model == chosen:  # the list was only left, as a click elsewhere does
            return {self.form.problems: gr.skip()}
        variant = get_model(model, self.services.settings)
        updates = self.form.fill(variant, {}, media=False)
        kept = lora_rows.checked(loras, variant, self.services.settings)
        updates[self.form.fields["loras"]] = gr.update(value=kept)
        return self._with_presets(self.form.mark(updates, []), model)

    def accept_licence(self, model: str, event: gr.EventData) -> Updates:
        """Remember that the licence on the card was accepted."""
        settings, problems = self.services.settings, []
        try:
            accept_licence(str(event._data["licence"]), settings)
        except UserError as error:
            problems = [Problem("model", str(error))]
        card = licence_card(get_model(model, settings), settings)
        return self.form.mark({self.form.licence: card}, problems)

    def apply_preset(self, values: Mapping[Component, Any]) -> Updates:
        """Put the preset's fields into the form; the others stay as they are."""
        held = self.form.read(values)
        file = self._presets(str(held["model"])).get(values[self.form.preset] or "")
        if file is None:
            return {self.form.problems: gr.skip()}
        settings = self.services.settings
        try:
            variant = get_model(str(held["model"]), settings)
            preset = open_preset(file, variant.family, settings)
            shown = {**held, **preset.values}
            variant = get_model(str(shown["model"]), settings)
        except UserError as error:
            return self.form.mark({}, [Problem("", str(error))])
        missing = lora_rows.to_be_fetched(preset, variant.family, settings)
        problems = [Problem("loras", message) for message in missing]
        return self.form.mark(self.form.fill(variant, shown), problems)

    def keep_preset(self, values: Mapping[Component, Any]) -> Updates:
        """Save what the form holds as a preset of the model's family."""
        form, settings = self.form, self.services.settings
        held, name = form.read(values), str(values[form.preset_name] or "")
        model = str(held["model"])
        try:
            family = get_model(model, settings).family
            file = save_preset(settings.presets, family, name, held)
        except UserError as error:
            return form.mark({}, [Problem("", str(error))])
        updates = self._with_presets({form.preset_name: gr.update(value="")}, model)
        updates[form.preset]["value"] = file.stem
        return form.mark(updates, [])

    def _with_presets(self, updates: Updates, model: str) -> Updates:
        names = list(self._presets(model))
        shown = gr.update(choices=names, value=None, visible=bool(names))
        return {**updates, self.form.preset: shown}

    def _presets(self, model: str) -> dict[str, Path]:
        return presets_for(model, self.services.settings)

    def last_seed(self) -> int:
        """The seed of the request that was added last."""
        newest = self._newest_request()
        return newest.seed if newest else -1

    def _newest_request(self) -> GenerationRequest | None:
        jobs = self.services.store.list_jobs()
        newest = max(jobs, key=lambda job: job.created_at, default=None)
        return newest.request if newest else None


def read_settings_file(file: Path) -> GenerationRequest:
    """The request in a finished video or a JSON file.

    Raises ``UserError`` that says what is wrong with the file.
    """
    if file.suffix.lower() != ".json":
        return read_request(file)
    data = read_json(file.read_bytes(), file.name)
    try:
        return GenerationRequest.model_validate(data)
    except ValidationError as error:
        raise RequestError(problems_of(error)) from error


def _example(event: gr.EventData) -> str:
    return str(event._data["prompt"])


def _pick_size(choice: str) -> Any:
    return gr.skip() if choice == sizes.CUSTOM else sizes.parse_size(choice)


# An empty field stays for the user.


def _snap_width(
    settings: Settings, model: str, width: float | None, height: float | None
) -> Any:
    if not width:
        return gr.skip()
    variant = get_model(model, settings)
    snapped = variant.limits.snap_size(round(width))
    return snapped, sizes.choice_of(variant, snapped, height)


def _snap_height(
    settings: Settings, model: str, width: float | None, height: float | None
) -> Any:
    if not height:
        return gr.skip()
    variant = get_model(model, settings)
    snapped = variant.limits.snap_size(round(height))
    return snapped, sizes.choice_of(variant, width, snapped)


def _snap_frames(settings: Settings, model: str, frames: float | None) -> Any:
    if not frames:
        return gr.skip()
    return get_model(model, settings).limits.snap_frames(round(frames))
