"""Makes videos: serves the page, or does what an option asks for instead."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.options import Options, parse
from app.reporters import fall_silent
from engine.errors import UserError
from engine.licences import accept_licence

# Read by libraries when they are imported, here and in the worker's process.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def main(
    argv: list[str] | None = None, worker: Callable[..., Any] | None = None
) -> int:
    """Exit code of the command line ``argv``; ``worker`` runs in the child process."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # started without a terminal
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # prompts and names have any letters
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = parse(argv)
        if options.settings.offline:  # read by the hub's client, as above
            os.environ["HF_HUB_OFFLINE"] = "1"
        for licence in options.accept_licences:
            accept_licence(licence, options.settings)
        return _run(options, worker)
    except UserError as error:
        sys.stderr.write(f"wgp: {error}\n")
        return 2
    except BrokenPipeError:  # as of "--list-models | head"
        fall_silent()
        return 1
    except KeyboardInterrupt:  # before anything ran
        return 130


def _run(options: Options, worker: Callable[..., Any] | None) -> int:
    if options.process is not None:
        from app.cli import process

        return process(options, worker)
    if options.inspect is not None:
        from app.inspect import inspect

        return inspect(options)
    if options.is_about_models:
        from app.models import manage_models

        return manage_models(options)
    if options.clean_media:
        from app.media import clean_media

        return clean_media(options)
    from app.ui.launch import serve

    return serve(options, worker)


if __name__ == "__main__":
    sys.exit(main())
