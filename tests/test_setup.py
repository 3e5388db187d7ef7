"""What make says when a machine lacks something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source_tree import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="these are shell scripts")


def script(name: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code of ``.ci/name`` and what it says."""
    done = subprocess.run(
        [str(ROOT / ".ci" / name), *arguments],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def fake_python(folder: Path, *, says_no_to: str) -> str:
    """A Python whose one-line programs fail when they hold this word."""
    file = folder / "python"
    file.write_text(
        f"""#!/bin/sh
case "$*" in
    *{says_no_to}*) exit 1 ;;
    --version) echo "Python 3.9.2" ;;
    *print*) echo "3.11" ;;
esac
"""
    )
    file.chmod(0o755)
    return str(file)


def test_working_python_passes_in_silence() -> None:
    assert script("python", sys.executable) == (0, "")


def test_missing_python_is_told_with_the_packages(tmp_path: Path) -> None:
    code, said = script("python", str(tmp_path / "none"))
    assert code == 1
    assert "apt-get install python3 python3-venv" in said


def test_old_python_is_told_with_its_version(tmp_path: Path) -> None:
    code, said = script("python", fake_python(tmp_path, says_no_to="version_info"))
    assert code == 1
    assert "Python 3.9.2 is too old: Python 3.11 or later is needed" in said


def test_missing_venv_package_is_named(tmp_path: Path) -> None:
    code, said = script("python", fake_python(tmp_path, says_no_to="ensurepip"))
    assert code == 1
    assert "apt-get install python3.11-venv" in said


def test_named_chromium_is_taken() -> None:
    assert script("browser", sys.executable, CHROMIUM="/bin/sh") == (0, "")


def test_named_chromium_that_is_not_there_is_refused(tmp_path: Path) -> None:
    code, said = script("browser", sys.executable, CHROMIUM=str(tmp_path / "none"))
    assert code == 1
    assert "can't be run" in said


def test_missing_chromium_where_nothing_installs_it_is_told(tmp_path: Path) -> None:
    code, said = script("browser", sys.executable, PATH=str(tmp_path))
    assert code == 1
    assert "need chromium" in said
    assert "Install Chromium or Chrome" in said
    assert "CHROMIUM=/path/to/chrome" in said


def test_library_that_playwright_lacks_is_named(tmp_path: Path) -> None:
    python = fake_python(tmp_path, says_no_to="playwright")
    code, said = script("browser", python, PATH=str(tmp_path), CHROMIUM="/bin/sh")
    assert code == 1
    assert "need libatomic1" in said
