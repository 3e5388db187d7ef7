"""Who may import whom. Lower parts never import higher ones, and the page's process
loads no torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.source_tree import (
    FAMILY_FOLDERS,
    ROOT,
    SOURCE_FOLDERS,
    imports,
    module_of,
    name_of,
    python_files,
    tree_of,
)

HEAVY = ("torch", "diffusers", "transformers", "mmgp", "peft", "accelerate")
PAGE = ("gradio", "fastapi", "starlette", "uvicorn")
LOW_ROOMS = ("media", "attention", "loading", "lora", "sampling")
LOW_ROOMS += ("preprocess", "postprocess")


@dataclass(frozen=True)
class Rule:
    """Files below ``where`` never import ``never``, nor what lies below it."""

    where: str
    never: tuple[str, ...]
    but: tuple[str, ...] = ()
    """Files, or folders, that the rule leaves out."""

    def __str__(self) -> str:
        return f"{self.where} never imports {', '.join(self.never)}"

    def applies_to(self, file: str) -> bool:
        return _is_below(file, self.where, "/") and not any(
            _is_below(file, exception, "/") for exception in self.but
        )

    def is_broken_by(self, module: str) -> bool:
        return any(_is_below(module, forbidden, ".") for forbidden in self.never)


def _is_below(name: str, parent: str, separator: str) -> bool:
    return parent in {"", name} or name.startswith(parent + separator)


RULES = [
    Rule("engine", ("app", "wgp", "argparse", *PAGE, *FAMILY_FOLDERS)),
    Rule("app", (*HEAVY, *FAMILY_FOLDERS)),
    Rule("app", ("gradio",), but=("app/ui",)),
    Rule(
        "app", ("engine.generate", "engine.loading.offload", "engine.loading.resident")
    ),
    *(
        Rule(f"engine/{room}", ("engine.queue", "engine.generate", "engine.validate"))
        for room in LOW_ROOMS
    ),
    Rule("engine/queue", HEAVY),
    Rule("engine/queue", ("engine.generate",), but=("engine/queue/worker.py",)),
    *(
        Rule(family, ("engine.queue", "engine.generate", "app", *PAGE))
        for family in FAMILY_FOLDERS
    ),
    *(
        Rule(family, tuple(other for other in FAMILY_FOLDERS if other != family))
        for family in FAMILY_FOLDERS
    ),
    Rule("", ("mmgp",), but=("engine/loading/offload.py",)),
    Rule("", ("wgp",), but=("tests",)),
    Rule("", ("tests",), but=("tests",)),
    *(
        Rule(folder, ("demo", "bench"))
        for folder in ("engine", "app", "wgp.py", *FAMILY_FOLDERS)
    ),
    Rule("", ("settings", "loras", "ckpts")),  # folders of data, yet importable
]


def broken(rule: Rule, file: str, tree: ast.Module, package: str) -> list[str]:
    """One line per import in ``tree`` that the rule forbids."""
    if not rule.applies_to(file):
        return []
    return [
        f"{file}:{line} imports {module}"
        for line, module in imports(tree, package)
        if rule.is_broken_by(module)
    ]


def _package_of(file: Path) -> str:
    module = module_of(file)
    return module if file.name == "__init__.py" else module.rpartition(".")[0]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rule_holds(rule: Rule) -> None:
    found = [
        line
        for file in python_files()
        for line in broken(rule, name_of(file), tree_of(file), _package_of(file))
    ]
    assert not found, "\n".join([str(rule), *found])


def test_every_source_folder_is_there() -> None:
    missing = [folder for folder in SOURCE_FOLDERS if not (ROOT / folder).is_dir()]
    assert not missing


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("engine/x.py", "import app.cli"),
        ("engine/x.py", "from app import cli"),
        ("engine/x.py", "def f():\n    import gradio as gr"),
        ("engine/media/x.py", "from .. import queue"),
        ("engine/media/x.py", "from ..queue import job"),
        ("engine/queue/x.py", "from engine.generate import generate"),
        ("app/cli.py", "import torch.nn"),
        ("app/cli.py", "from gradio import Blocks"),
        ("app/ui/x.py", "from engine import generate"),
        ("app/ui/x.py", "from importlib import import_module\nimport_module('wan')"),
        ("wan/x.py", "from engine.queue.job import Job"),
        ("bench/x.py", "from wgp import main"),
        ("engine/loading/x.py", "from mmgp import offload"),
        ("engine/x.py", "from demo.scenes import draw"),
    ],
)
def test_broken_rule_is_seen(file: str, source: str) -> None:
    tree = ast.parse(source)
    package = file.rpartition("/")[0].replace("/", ".")
    assert any(broken(rule, file, tree, package) for rule in RULES)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("engine/loading/offload.py", "from mmgp import offload"),
        ("app/ui/x.py", "import gradio"),
        ("app/cli.py", "from engine.request import GenerationRequest"),
        ("wan/x.py", "from engine.media.video import VideoWriter\nimport torch"),
        ("tests/app/x.py", "import wgp"),
        ("engine/x.py", "import application"),
    ],
)
def test_allowed_import_breaks_no_rule(file: str, source: str) -> None:
    tree = ast.parse(source)
    assert not [line for rule in RULES for line in broken(rule, file, tree, "")]


def run_python(program: str) -> str:
    """The last line that ``program`` prints in a new process at the root."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that a new process has loaded after running this."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run_python(f"{statement}\n{report}"))
    return {module.partition(".")[0] for module in loaded}


TORCH_FREE = [
    "engine.request",
    "engine.events",
    "engine.errors",
    "engine.family",
    "engine.settings",
    "engine.validate",
    "engine.presets",
    "engine.outputs",
    "engine.media.metadata",
]


def test_command_line_loads_no_torch_and_no_page() -> None:
    assert not loaded_after("import app.cli") & {*HEAVY, *PAGE}


def test_app_loads_no_torch() -> None:
    modules = [module_of(file) for file in python_files("app")]
    assert len(modules) > 10
    assert not loaded_after(f"import {', '.join(modules)}") & set(HEAVY)


def test_engine_outside_the_worker_loads_no_torch() -> None:
    queue = [
        module_of(file)
        for file in python_files("engine/queue")
        if file.name != "__init__.py"
    ]
    assert "engine.queue.job" in queue
    statement = f"import {', '.join([*TORCH_FREE, *queue])}"
    assert not loaded_after(statement) & {*HEAVY, *PAGE}


def test_list_of_models_loads_no_torch() -> None:
    statement = "from engine.family import all_variants; assert all_variants()"
    assert not loaded_after(statement) & set(HEAVY)


@pytest.mark.parametrize("family", FAMILY_FOLDERS)
def test_family_package_is_ours(family: str) -> None:
    """Upstream repositories use the same package names; theirs must not win."""
    file = run_python(f"import {family}; print({family}.__file__)")
    assert Path(file) == ROOT / family / "__init__.py"
