"""The project's own files, for the tests that read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from engine.family import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
FAMILY_FOLDERS = tuple(target.split(":")[0] for target in FAMILIES.values())
SOURCE_FOLDERS = ("engine", "app", *FAMILY_FOLDERS, "demo", "bench", "docs", "tests")


def python_files(*folders: str) -> list[Path]:
    """Python files below these folders (all when none is named), sorted."""
    found = [
        file
        for folder in folders or SOURCE_FOLDERS
        for file in (ROOT / folder).rglob("*.py")
    ]
    return sorted(found if folders else [*found, *ROOT.glob("*.py")])


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def module_of(file: Path) -> str:
    """The dotted name by which the file is imported."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Every module that is imported anywhere in ``tree``, with its line.

    ``from a import b`` gives ``a.b``, which is what it may be. ``package`` is what
    relative imports start from.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import_call(node):
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield node.lineno, argument.value


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    kept = parts[: len(parts) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _is_import_call(node: ast.Call) -> bool:
    name = node.func
    called = name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")
    return called in {"import_module", "__import__"} and bool(node.args)
