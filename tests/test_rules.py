"""Sizes, names and forbidden calls: the rules that keep the code small and safe."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import metadata, packages_distributions
from pathlib import Path

import pytest

from tests.source_tree import (
    FAMILY_FOLDERS,
    ROOT,
    SOURCE_FOLDERS,
    imports,
    name_of,
    python_files,
    tree_of,
)

MAX_FILE_LINES = 400
MAX_TEST_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 8
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}

LAST_RESORT = "engine/queue/worker.py"
"""The one file that may catch everything: it keeps the error with the job."""

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {
    "torch.load": "runs code that a checkpoint brings: read safetensors",
    "yaml.load": "builds any object: use yaml.safe_load",
    "yaml.unsafe_load": "builds any object: use yaml.safe_load",
    "yaml.full_load": "builds many objects: use yaml.safe_load",
    "os.system": "use subprocess with a list of arguments",
    "eval": "runs code",
    "exec": "runs code",
}

COME_WITH = {
    "numpy": "diffusers",
    "PIL": "diffusers",
    "tokenizers": "transformers",
    "tqdm": "huggingface_hub",
    "httpx2": "huggingface_hub",
    "optimum": "mmgp",
    "filelock": "huggingface_hub",
    "psutil": "accelerate",
    "pydantic_core": "pydantic",
    "fastapi": "gradio",
    "starlette": "gradio",
    "uvicorn": "gradio",
    "gradio_client": "gradio",
}
"""Imported packages whose version a pinned package decides."""


def too_long_file(file: str, source: str) -> list[str]:
    limit = MAX_TEST_FILE_LINES if file.startswith("tests/") else MAX_FILE_LINES
    lines = source.count("\n")
    return [f"{file}: {lines} lines; at most {limit}"] if lines > limit else []


def too_big_functions(file: str, tree: ast.Module) -> list[str]:
    return [
        f"{file}:{node.lineno}: {node.name} is {size} lines; at most "
        f"{MAX_FUNCTION_LINES}"
        for node in _functions(tree)
        if (size := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


def too_many_parameters(file: str, tree: ast.Module) -> list[str]:
    return [
        f"{file}:{node.lineno}: {node.name} takes {count}; at most {MAX_PARAMETERS}"
        for node in _functions(tree)
        if (count := _count_parameters(node.args)) > MAX_PARAMETERS
    ]


def globals_declared(file: str, tree: ast.Module) -> list[str]:
    return [
        f"{file}:{node.lineno}: global {', '.join(node.names)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Global)
    ]


def caught_everything(file: str, tree: ast.Module) -> list[str]:
    if file == LAST_RESORT:
        return []
    return [
        f"{file}:{node.lineno}: catches everything"
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and _is_everything(node.type)
    ]


def unsafe_reads(file: str, tree: ast.Module) -> list[str]:
    found = [
        f"{file}:{line}: imports {module}"
        for line, module in imports(tree, "")
        if module.partition(".")[0] in FORBIDDEN_MODULES
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in FORBIDDEN_CALLS and not _loads_weights_only(node):
                found.append(
                    f"{file}:{node.lineno}: {called} {FORBIDDEN_CALLS[called]}"
                )
            if _keyword(node, "allow_pickle") is True:
                found.append(f"{file}:{node.lineno}: allow_pickle=True runs code")
    return found


def overlooked_models(file: str, tree: ast.Module) -> list[str]:
    """The user's own models are found by ``engine.catalogue`` only."""
    if not file.startswith(("engine/", "app/")) or file == "engine/catalogue.py":
        return []
    return [
        f"{file}:{node.lineno}: {name.name} knows the app's own models only: use "
        "engine.catalogue"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "engine.family"
        for name in node.names
        if name.name in {"all_variants", "get_variant"}
    ]


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def _count_parameters(arguments: ast.arguments) -> int:
    return len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)


def _is_everything(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    if isinstance(caught, ast.Tuple):
        return any(_is_everything(part) for part in caught.elts)
    return ast.unparse(caught) in {"Exception", "BaseException"}


def _loads_weights_only(call: ast.Call) -> bool:
    return _keyword(call, "weights_only") is True


def _keyword(call: ast.Call, name: str) -> object:
    return next(
        (
            keyword.value.value
            for keyword in call.keywords
            if keyword.arg == name and isinstance(keyword.value, ast.Constant)
        ),
        None,
    )


TreeCheck = Callable[[str, ast.Module], list[str]]
CODE_CHECKS: list[TreeCheck] = [
    overlooked_models,
    too_big_functions,
    too_many_parameters,
    caught_everything,
    unsafe_reads,
]
"""Rules for everything but tests; ``globals_declared`` holds for tests too."""


def _code_files() -> list[Path]:
    return [file for file in python_files() if not name_of(file).startswith("tests/")]


def test_no_file_is_too_long() -> None:
    found = [
        line
        for file in python_files()
        for line in too_long_file(name_of(file), file.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("check", CODE_CHECKS, ids=lambda check: check.__name__)
def test_code_has_no(check: TreeCheck) -> None:
    found = [
        line for file in _code_files() for line in check(name_of(file), tree_of(file))
    ]
    assert not found, "\n".join(found)


def test_nothing_is_declared_global() -> None:
    found = [
        line
        for file in python_files()
        for line in globals_declared(name_of(file), tree_of(file))
    ]
    assert not found, "\n".join(found)


def test_names_say_what_lives_there() -> None:
    found = [
        name
        for name in (name_of(file) for file in python_files())
        if EMPTY_NAMES & set(Path(name).with_suffix("").parts)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (globals_declared, "def f():\n    global x\n    x = 1"),
        (caught_everything, "try:\n    f()\nexcept Exception:\n    pass"),
        (caught_everything, "try:\n    f()\nexcept (OSError, Exception):\n    pass"),
        (caught_everything, "try:\n    f()\nexcept:\n    pass"),
        (unsafe_reads, "import pickle"),
        (unsafe_reads, "from pickle import loads"),
        (unsafe_reads, "torch.load(file)"),
        (unsafe_reads, "torch.load(file, weights_only=False)"),
        (unsafe_reads, "yaml.load(text, Loader)"),
        (unsafe_reads, "numpy.load(file, allow_pickle=True)"),
        (too_many_parameters, "def f(a, b, c, d, e, /, g, h, *, i, j): ..."),
        (too_big_functions, "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
    ],
)
def test_broken_rule_is_seen(check: TreeCheck, source: str) -> None:
    assert check("engine/x.py", ast.parse(source))


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (caught_everything, "try:\n    f()\nexcept OSError:\n    pass"),
        (unsafe_reads, "torch.load(file, weights_only=True)"),
        (unsafe_reads, "yaml.safe_load(text)"),
        (unsafe_reads, "json.load(file)"),
        (too_many_parameters, "def f(a, b, c, d, e, g, h, i): ..."),
        (too_big_functions, "def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1)),
    ],
)
def test_kept_rule_is_quiet(check: TreeCheck, source: str) -> None:
    assert not check("engine/x.py", ast.parse(source))


def test_too_long_file_is_seen() -> None:
    assert too_long_file("engine/x.py", "\n" * (MAX_FILE_LINES + 1))
    assert not too_long_file("engine/x.py", "\n" * MAX_FILE_LINES)


def _pins(name: str) -> dict[str, str]:
    """Package → version; fails on a line that isn't an exact pin."""
    pins = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        requirement = line.partition("#")[0].strip()
        if requirement and not requirement.startswith("-r "):
            exact = re.fullmatch(r"([A-Za-z0-9_.-]+)==([0-9][0-9a-z.]*)", requirement)
            assert exact, f"{name}: {requirement!r} isn't an exact pin"
            pins[exact[1]] = exact[2]
    return pins


def _comparable(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


NEEDED_BY_OTHERS = {
    "ftfy": "diffusers cleans Wan's prompts with it",
}
"""Pinned packages that no file of ours imports, and who does."""


def test_every_pin_is_used() -> None:
    distributions = packages_distributions()
    imported = {
        _comparable(name)
        for file in _code_files()
        for _, module in imports(tree_of(file), "")
        for name in distributions.get(module.partition(".")[0], [])
    }
    pinned = {_comparable(package) for package in _pins("requirements.txt")}
    assert pinned - imported == {_comparable(name) for name in NEEDED_BY_OTHERS}


def test_every_pin_is_exact_and_installed() -> None:
    pins = _pins("requirements.txt") | _pins("requirements-dev.txt")
    wrong = {
        package: installed
        for package, version in pins.items()
        if (installed := metadata(package)["Version"].partition("+")[0]) != version
    }
    assert pins
    assert not wrong


def test_every_pin_installs_on_the_oldest_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    oldest = _version(project["project"]["requires-python"])
    too_new = {
        package: needed
        for package in _pins("requirements.txt") | _pins("requirements-dev.txt")
        if (needed := metadata(package)["Requires-Python"])
        and _version(needed) > oldest
    }
    assert not too_new


def _version(specifier: str) -> tuple[int, ...]:
    """``>=3.11.0`` → ``(3, 11)``."""
    lowest = re.search(r">=\s*(\d+)\.(\d+)", specifier)
    assert lowest, specifier
    return int(lowest[1]), int(lowest[2])


@pytest.mark.parametrize(
    ("folders", "files"),
    [
        (("engine", "app", *FAMILY_FOLDERS), ["requirements.txt"]),
        (("demo", "bench", "tests"), ["requirements.txt", "requirements-dev.txt"]),
    ],
    ids=["app", "tools"],
)
def test_every_imported_package_is_pinned(
    folders: tuple[str, ...], files: list[str]
) -> None:
    pinned = {_comparable(package) for file in files for package in _pins(file)}
    ours = {*SOURCE_FOLDERS, "wgp"}
    distributions = packages_distributions()
    unpinned = set()
    for file in python_files(*folders):
        for line, module in imports(tree_of(file), "engine"):
            top = module.partition(".")[0]
            if top in ours or top in sys.stdlib_module_names or top in COME_WITH:
                continue
            names = {_comparable(name) for name in distributions.get(top, [top])}
            if not names & pinned:
                unpinned.add(f"{name_of(file)}:{line} imports {top}")
    assert not unpinned, "\n".join(sorted(unpinned))
