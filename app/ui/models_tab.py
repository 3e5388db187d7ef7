"""The models on the page: what is on the disk, what is on its way, and fetching,
checking and deleting it."""

from __future__ import annotations

import time
from html import escape

import gradio as gr

from app.models import download_told, size, stock_told
from app.ui.live import PRESSED, Live, Session, Updates
from app.ui.markup import ON_ACTION, sentence
from app.ui.services import Services
from engine.catalogue import all_models, own_models
from engine.checks import Check
from engine.downloads import Download
from engine.errors import UserError
from engine.loading.inventory import Stock, delete, stock_of, throw_away

STOCK_SECONDS = 5.0
"""The disk isn't looked at more often than this unless something has changed."""


class ModelsTab:
    """Builds the tab, and the list of downloads that stands beside the queue."""

    def __init__(self, services: Services, live: Live) -> None:
        self.services = services
        self.live = live
        self.checks = services.checks
        self._stocks: list[Stock] = []
        self._looked: tuple[float, int] = (0.0, -1)

    def build_downloads(self) -> None:
        """What is on its way, wherever it is asked for."""
        self.coming = gr.HTML("", js_on_load=ON_ACTION, elem_id="downloads")
        self.live.add("downloads", self.coming, lambda *_: self._draw_downloads())

    def build(self) -> None:
        self.live.add_notices("models")
        self.rows = gr.HTML("", js_on_load=ON_ACTION, elem_id="models")
        self.live.add("models", self.rows, lambda *_: self._draw())

    def wire(self) -> None:
        for listed in (self.rows, self.coming):
            listed.act(
                self.on_act,
                inputs=self.live.session,
                outputs=self.live.outputs,
                **PRESSED,
            )

    def on_act(self, session: Session, event: gr.EventData) -> Updates:
        data = event._data or {}
        name, model = str(data.get("action")), str(data.get("model"))
        try:
            if model in all_models(self.services.settings):
                session.note("models", self._act(name, model))
        except UserError as error:
            session.note("models", sentence(str(error)))
        self._looked = (0.0, -1)
        return self.live.refresh(session)

    def _act(self, name: str, model: str) -> str:
        """Do it; returns what to say of it."""
        downloads, settings = self.services.downloads, self.services.settings
        if name == "fetch":
            begun = downloads.fetch(model)
            return "" if begun else f"All files of {model} are here."
        if name == "stop-fetch":
            downloads.cancel(model)
            return f"The download of {model} is stopped; what has come is kept."
        stock = stock_of(all_models(settings)[model], settings, downloads.choose)
        if name == "verify":
            self.checks.start(stock)
        elif name == "stop-verify":
            self.checks.cancel(model)
        elif name == "repair":
            throw_away(self.checks.damaged(model), stock, settings)
            self.checks.forget(model)
            downloads.fetch(model)
        elif name == "delete":
            if any(each.model == model for each in downloads.list()):
                raise UserError(f"{model} is being downloaded; cancel that first")
            freed = delete(stock, settings, downloads.choose)
            self.checks.forget(model)
            return f"{model} is deleted; {size(freed)} are free now."
        return ""

    def _draw_downloads(self) -> str:
        coming = self.services.downloads.list()
        if not coming:
            return ""
        cards = "".join(_download_card(each) for each in coming)
        return f'<section class="downloads" aria-label="Downloads">{cards}</section>'

    def _draw(self) -> str:
        coming = {each.model: each for each in self.services.downloads.list()}
        failures, checks = self.services.downloads.failures(), self.checks.running()
        verdicts = self.checks.verdicts()
        here: list[str] = []
        elsewhere: list[str] = []
        for stock in self._look():
            model = stock.variant.id
            said = failures.get(model) or verdicts.get(model, "")
            buttons = _buttons(
                stock,
                coming.get(model),
                checks.get(model),
                is_damaged=bool(self.checks.damaged(model)),
            )
            rows = here if stock.files or stock.is_shipped else elsewhere
            rows.append(
                _row(stock, coming.get(model), checks.get(model), said, buttons)
            )
        total = size(sum_of(self._stocks))
        broken = "".join(
            f'<p class="note warn" role="status">{escape(sentence(problem))}</p>'
            for problem in own_models(self.services.settings).problems.values()
        )
        return (
            broken
            + _group(f"On this disk <small>{total}</small>", here)
            + _group("To download", elsewhere)
        )

    def _look(self) -> list[Stock]:
        """What is there, looked up anew now and then."""
        downloads, settings = self.services.downloads, self.services.settings
        at, ended = self._looked
        if time.monotonic() - at > STOCK_SECONDS or ended != downloads.ended():
            self._looked = (time.monotonic(), downloads.ended())
            self._stocks = [
                stock_of(variant, settings, downloads.choose)
                for variant in all_models(settings).values()
            ]
        return self._stocks


def sum_of(stocks: list[Stock]) -> int:
    """Bytes of all files, those that several models share counted once."""
    files = {file.resolve() for stock in stocks for file in stock.files}
    return sum(file.stat().st_size for file in files if file.exists())


def _download_card(download: Download) -> str:
    return (
        '<div class="card download" role="status"><div class="doing">'
        f'<p class="phase">Downloading {escape(download.title)}</p>'
        f"{_bar(download.done, download.total)}"
        f'<p class="facts">{download_told(download)}</p></div>'
        f"{_button('stop-fetch', 'Cancel', download.model)}</div>"
    )


def _bar(done: int, total: int) -> str:
    percent = round(100 * done / total) if total else 0
    return (
        '<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><span style="width:{percent}%"></span></div>'
    )


def _group(title: str, rows: list[str]) -> str:
    if not rows:
        return ""
    return (
        f'<section class="models"><h2>{title}</h2><div class="jobs" role="list">'
        f"{''.join(rows)}</div></section>"
    )


def _row(
    stock: Stock,
    download: Download | None,
    check: Check | None,
    said: str,
    buttons: str,
) -> str:
    variant = stock.variant
    note = f'<p class="note">{escape(sentence(said))}</p>' if said else ""
    progress = ""
    if download is not None:
        progress = _bar(download.done, download.total)
        progress += f'<p class="facts">{download_told(download)}</p>'
    elif check is not None:
        progress = _bar(check.done, check.total)
        progress += f'<p class="facts">checking, {size(check.done)} so far</p>'
    return (
        f'<div class="model job" role="listitem" data-model="{escape(variant.id)}">'
        f'<div class="about"><p class="prompt">{escape(variant.title)}</p>'
        f'<p class="facts">{escape(variant.id)} · {escape(_told(stock))}</p>'
        f'{progress}{note}</div><span class="acts">'
        f"{buttons}</span></div>"
    )


def _told(stock: Stock) -> str:
    if stock.missing and not stock.size and not stock.is_shipped:
        whole = stock.variant.gigabytes
        return f"{f'{whole:.0f} GB' if whole >= 1 else size(whole * 1e9)} to download"
    return stock_told(stock)


def _buttons(
    stock: Stock,
    download: Download | None,
    check: Check | None,
    *,
    is_damaged: bool,
) -> str:
    model = stock.variant.id
    if download is not None:
        return _button("stop-fetch", "Cancel", model)
    if check is not None:
        return _button("stop-verify", "Cancel", model)
    buttons = _button("repair", "Repair", model) if is_damaged else ""
    if stock.missing and not stock.is_shipped:
        buttons += _button("fetch", "Download", model)
    if stock.files:
        buttons += _button("verify", "Verify", model)
    if stock.files and not stock.is_shipped:
        ask = f"Delete the files of {model}? It can be downloaded again."
        buttons += _button("delete", "Delete", model, ask)
    return buttons


def _button(name: str, label: str, model: str, ask: str = "") -> str:
    confirm = f' data-confirm="{escape(ask)}"' if ask else ""
    kind = "text danger" if ask else "text"
    return (
        f'<button type="button" class="act {kind}" data-action="{name}" '
        f'data-model="{escape(model)}"{confirm}>{label}</button>'
    )
