"""Makes one LTX video: ``python run_ltxv.py "a fox in the snow"``."""

import argparse
import os
import sys
import time
from pathlib import Path


def main() -> None:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from app.reporters import pace, phase_title
    from engine.errors import EngineError, RequestError
    from engine.events import Event, Phase, Step
    from engine.generate import generate
    from engine.settings import PROJECT, Settings

    began, parser = time.monotonic(), argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt")
    parser.add_argument("--model", default="ltxv-13b-0.9.7-distilled")
    for name in ("width", "height", "num-frames", "num-inference-steps", "seed"):
        parser.add_argument(f"--{name}", type=int, default={"seed": 42}.get(name))
    parser.add_argument("--output", type=Path, default="output/output.mp4")
    parser.add_argument("--root", type=Path, default=PROJECT, help="folder of all data")
    asked = {k: v for k, v in vars(parser.parse_args()).items() if v is not None}
    output, settings = asked.pop("output"), Settings(root=asked.pop("root"))

    def show(event: Event) -> None:
        if isinstance(event, Phase | Step):
            text = phase_title(event) if isinstance(event, Phase) else pace(event)
            print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True)  # noqa: T201

    try:
        generate(asked, output=output, settings=settings, on_event=show)
    except (EngineError, KeyboardInterrupt) as error:
        sys.stderr.write(f"run_ltxv: {str(error) or 'interrupted'}\n")
        sys.exit({RequestError: 2, KeyboardInterrupt: 130}.get(type(error), 1))


main()
