"""Models from the command line: what is on the disk, and fetching, checking and
deleting it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

from app.options import Options
from app.reporters import duration
from engine.catalogue import all_models, get_model, own_models
from engine.downloads import Download, Downloads
from engine.errors import UserError
from engine.loading.download import MIB
from engine.loading.inventory import (
    Stock,
    bytes_to_verify,
    deletable,
    delete,
    stock_of,
    throw_away,
    verify,
)
from engine.settings import Settings

LINE_SECONDS = 2.0
"""Between two lines of progress."""

DONE, FAILED, INTERRUPTED = 0, 1, 130


def manage_models(options: Options) -> int:
    """Do the one thing that was asked for; returns the exit code."""
    settings = options.settings
    if options.download is not None:
        return _download(options.download, settings)
    if options.verify is not None:
        return _verify(options.verify, settings, repair=options.repair)
    if options.delete is not None:
        return _delete(options.delete, settings, is_sure=options.yes)
    choose = Downloads(settings).choose
    for variant in all_models(settings).values():
        stock = stock_of(variant, settings, choose)
        _say(f"{variant.id:42} {stock_told(stock)}")
    for problem in own_models(settings).problems.values():
        _say(problem)
    return DONE


def size(count: float) -> str:
    """``26.1 GB`` or ``340 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def stock_told(stock: Stock) -> str:
    """What is here of a model and what is missing, in one line."""
    if stock.is_shipped:
        told = "; its files are missing" if stock.missing else f", {size(stock.size)}"
        return f"comes with the app{told}"
    if not stock.missing:
        return f"on this disk, {size(stock.size)}"
    names = ", ".join(stock.missing[:3])
    if len(stock.missing) > 3:
        names += f" and {len(stock.missing) - 3} more"
    whole = f"{stock.variant.gigabytes:.0f} GB"
    here = f"{size(stock.size)} of {whole} are here" if stock.size else whole
    return f"{here}; missing: {names}"


def download_told(download: Download) -> str:
    """``512 of 26,000 MiB, 85 MiB/s, 5 min 00 s left``."""
    if download.is_waiting:
        return "waits for the download before it"
    if not download.total:
        return "asking the hub"
    said = f"{download.done // MIB:,} of {-(-download.total // MIB):,} MiB"
    if download.rate:
        said += f", {download.rate / MIB:.3g} MiB/s"
    if download.done >= download.total:
        return f"{said}, checking"
    if (left := download.seconds_left) is not None:
        said += f", {duration(left)} left"
    return said


def _download(model: str, settings: Settings) -> int:
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    downloads = Downloads(settings)
    try:
        if not downloads.fetch(model):
            _say(f"{model}: all its files are here")
            return DONE
        while not downloads.wait(model, LINE_SECONDS, interrupted.is_set):
            if interrupted.is_set():
                _say(f"{model}: stopped; what has come is kept")
                return INTERRUPTED
            for each in downloads.list():
                _say(f"{model}: {download_told(each)}")
        if (error := downloads.failures().get(model)) is not None:
            sys.stderr.write(f"wgp: {error}\n")
            return FAILED
        stock = stock_of(get_model(model, settings), settings, downloads.choose)
        _say(f"{model}: {stock_told(stock)}")
        return DONE
    finally:
        downloads.close()
        signal.signal(signal.SIGINT, before)


def _verify(model: str, settings: Settings, *, repair: bool) -> int:
    stock = stock_of(get_model(model, settings), settings, Downloads(settings).choose)
    if not stock.files:
        raise UserError(f"nothing of {model} is on this machine")
    verdict = verify(stock, _count_lines(model, bytes_to_verify(stock)))
    _say(f"{model}: {verdict}")
    if not verdict.damaged:
        return DONE
    if not repair:
        _say(f"To fetch them again: --verify {model} --repair")
        return FAILED
    throw_away(verdict.damaged, stock, settings)
    return _download(model, settings)


def _count_lines(model: str, total: int) -> Callable[[int], None]:
    """Says now and then how much was read."""
    done, told = 0, 0

    def count(came: int) -> None:
        nonlocal done, told
        done += came
        if done - told >= 1024 * MIB:
            told = done
            _say(f"{model}: checked {size(done)} of {size(total)}")

    return count


def _delete(model: str, settings: Settings, *, is_sure: bool) -> int:
    choose = Downloads(settings).choose
    stock = stock_of(get_model(model, settings), settings, choose)
    # With nothing to delete, ``delete`` says why.
    if not is_sure and deletable(stock, settings, choose):
        _say(f"Delete the files of {model} ({size(stock.size)})? Type yes:")
        if sys.stdin.readline().strip().lower() != "yes":
            _say("Nothing is deleted")
            return FAILED
    _say(f"{model}: deleted, {size(delete(stock, settings, choose))} are free now")
    return DONE


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
