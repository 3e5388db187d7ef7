"""The page on adding a family, followed to the letter in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.media.metadata import read_request
from engine.media.video import probe
from tests.documents import read
from tests.source_tree import ROOT

PAGE = "docs/add-a-family.md"
NEEDED = ("engine", "app", "wan", "ltx_video", "hyvideo", "settings", "tests")
FILE = re.compile(r"\*\*([\w/.]+)\*\*")
FENCE = re.compile(r"```(\w+)")


def steps(page: str) -> list[tuple[str, str, str]]:
    """(language, file, text) of each block, in the page's order; the file is the one
    that is named last above it."""
    found: list[tuple[str, str, str]] = []
    file = ""
    lines = iter(page.splitlines(keepends=True))
    for line in lines:
        if named := FILE.fullmatch(line.strip()):
            file = named[1]
        elif opened := FENCE.fullmatch(line.strip()):
            text = "".join(iter(lambda: next(lines), "```\n"))
            found.append((opened[1], file, text))
    return found


def apply_diff(text: str, diff: str) -> str:
    """``text`` with the added lines of ``diff``, whose other lines stand in it."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line.startswith(" "))
    after = "".join(line[1:] for line in lines)
    assert text.count(before) == 1, f"stands there {text.count(before)} times: {before}"
    return text.replace(before, after)


def follow(project: Path, language: str, file: str, text: str) -> None:
    """Do in ``project`` what one block says."""
    place = project / file
    if language == "sh":
        for command in text.splitlines():
            run(project, command)
    elif language == "diff":
        place.write_text(apply_diff(place.read_text("utf-8"), text), "utf-8")
    else:
        assert not place.exists(), f"{file} is there already"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")


def run(project: Path, command: str) -> None:
    here = command.replace("python ", f'"{sys.executable}" ', 1)
    done = subprocess.run(
        ["sh", "-c", here if command.startswith("python ") else command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": "", "PYTEST_ADDOPTS": "-p no:cacheprovider"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (
        f"{command}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which all that the page says was done."""
    copy = tmp_path_factory.mktemp("project")
    for folder in NEEDED:
        leave = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
        shutil.copytree(ROOT / folder, copy / folder, ignore=leave)
    for file in ("wgp.py", "pyproject.toml"):
        shutil.copy(ROOT / file, copy)
    for language, file, text in steps(read(PAGE)):
        follow(copy, language, file, text)
    return copy


def test_page_makes_a_family_that_keeps_the_contract_and_makes_a_video(
    project: Path,
) -> None:
    (video,) = (project / "outputs").glob("*.mp4")
    info = probe(video)
    assert (info.width, info.height, info.num_frames) == (96, 64, 9)
    assert read_request(video).model == "sana-tiny"


def test_family_of_the_page_is_listed_without_torch(project: Path) -> None:
    program = (
        "import sys; from engine.family import all_variants; "
        "assert 'sana-tiny' in all_variants(); assert 'torch' not in sys.modules"
    )
    run(project, f'python -c "{program}"')


def test_family_of_the_page_has_a_preset(project: Path) -> None:
    program = (
        "from engine.settings import Settings; from engine.presets import *; "
        "[file] = list_presets(Settings().presets, 'sana_video'); read_preset(file)"
    )
    run(project, f'python -c "{program}"')


def test_code_of_the_page_is_clean(project: Path) -> None:
    written = "sana_video tests/tiny_sana.py tests/contract/test_family.py"
    run(project, f"python -m ruff check -q {written}")
    run(project, f"python -m ruff format -q --check {written}")


def test_family_of_the_page_is_one_folder_one_preset_and_one_line() -> None:
    changed = {file for language, file, _ in steps(read(PAGE)) if language == "diff"}
    added = [file for language, file, _ in steps(read(PAGE)) if language != "diff"]
    assert changed == {"engine/family.py", "tests/contract/test_family.py"}
    outside = {file for file in added if not file.startswith("sana_video/")}
    assert outside == {
        "settings/presets/sana_video/draft.json",
        "tests/tiny_sana.py",
        "tests/contract/test_family.py",  # commands below it
    }


@pytest.mark.parametrize("text", ["", "b\n", "a\na\n"])
def test_a_change_is_refused_where_its_place_is_unclear(text: str) -> None:
    with pytest.raises(AssertionError, match="stands there"):
        apply_diff(text, " a\n+c\n")
    assert apply_diff("a\nb\n", " a\n+c\n") == "a\nc\nb\n"
