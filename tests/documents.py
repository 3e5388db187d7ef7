"""Reads the project's Markdown: sections, tables, code."""

from __future__ import annotations

import re
from pathlib import Path

from tests.source_tree import ROOT

PLACES = ("*.md", "docs/**/*.md", "*/README.md", "ckpts/demo/*/README.md")
DOCS = sorted({file for place in PLACES for file in ROOT.glob(place)})
COMMAND_LINE = "docs/command-line.md"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """The text below a heading, up to the next one of any level."""
    pattern = rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)"
    found = re.search(pattern, read(name), re.MULTILINE | re.DOTALL)
    assert found, f"{name} has no heading {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of each row of the tables in ``text``, headings left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [i for i, row in enumerate(cells) if set("".join(row)) <= set("-: ")]
    heads = {i - 1 for i in rules} | set(rules)
    return [row for i, row in enumerate(cells) if i not in heads]


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def names_in_first_column(text: str) -> list[str]:
    return [name for row in rows(text) for name in code_in(row[0])]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def all_code(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    indented = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [*indented, *fenced, *re.findall(r"`([^`\n]+)`", text)]
