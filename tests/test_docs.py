"""The documentation says what the program does: no more, no less."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest

import engine
from app import cli
from engine.events import Event
from engine.family import ModelVariant, all_variants
from engine.licences import LICENCES
from engine.request import GenerationRequest
from engine.settings import PROJECT, Settings
from engine.validate import accept
from tests.documents import (
    COMMAND_LINE,
    DOCS,
    blocks,
    code_in,
    names_in_first_column,
    read,
    rows,
    section,
)
from tests.source_tree import FAMILY_FOLDERS, ROOT, name_of, python_files

MODELS = "docs/models.md"


def options_of_wgp() -> set[str]:
    done = subprocess.run(
        [sys.executable, "wgp.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"--[a-z][a-z0-9-]+", done.stdout)) - {"--help"}


def test_every_option_is_documented_and_no_other() -> None:
    documented = [name.split()[0] for name in _option_rows()]
    assert sorted(documented) == sorted(options_of_wgp())


def _option_rows() -> list[str]:
    return [
        name
        for heading in ("The page", "Data and device", "Without a page")
        for name in names_in_first_column(section(COMMAND_LINE, heading))
    ]


def test_commands_in_the_docs_use_options_that_exist() -> None:
    known = options_of_wgp()
    for file in DOCS:
        commands = re.findall(r"wgp\.py ([^`\n]*)", file.read_text(encoding="utf-8"))
        used = {
            option for text in commands for option in re.findall(r"--[a-z0-9-]+", text)
        }
        assert used <= known, name_of(file)


def test_every_setting_is_documented_and_no_other() -> None:
    documented = names_in_first_column(section(COMMAND_LINE, "Settings file"))
    assert documented == list(Settings.model_fields)


def test_every_field_of_a_request_is_documented_and_no_other() -> None:
    fields = [
        field.alias or name for name, field in GenerationRequest.model_fields.items()
    ]
    assert names_in_first_column(section(COMMAND_LINE, "A request")) == fields


def test_every_event_and_its_fields_are_documented() -> None:
    documented = {
        code_in(row[0])[0]: code_in(row[2])
        for row in rows(section(COMMAND_LINE, "Events"))
    }
    emitted = {
        event.model_fields["event"].default: [
            name for name in event.model_fields if name not in {"event", "job"}
        ]
        for event in get_args(Event)
    }
    assert documented == emitted


def test_every_exit_code_is_documented() -> None:
    documented = [int(row[0]) for row in rows(section(COMMAND_LINE, "Exit codes"))]
    assert documented == [
        cli.ALL_DONE,
        cli.SOME_FAILED,
        cli.INVALID,
        cli.INTERRUPTED,
    ]


def test_every_model_is_documented_with_its_size_and_licence() -> None:
    table = rows(read(MODELS).partition("\n## ")[0])
    documented = {code_in(row[0])[0]: (row[2], row[3]) for row in table}
    assert documented == {
        variant.id: (_size(variant), variant.licence)
        for variant in all_variants().values()
    }


def test_every_licence_is_documented_with_its_limits() -> None:
    assert rows(section(MODELS, "Licences")) == [
        [
            f"[{licence.name}]({licence.address})",
            licence.limits,
            "yes" if licence.must_be_accepted else "no",
        ]
        for licence in LICENCES.values()
    ]


def _size(variant: ModelVariant) -> str:
    if variant.hub or variant.files:
        return f"{variant.gigabytes:.0f} GB"
    is_there = (PROJECT / "ckpts" / variant.folder / "model_index.json").is_file()
    return "comes with the code" if is_there else "not trained yet"


def test_docs_name_only_models_that_exist() -> None:
    ids = set(all_variants())
    for file in DOCS:
        text = file.read_text(encoding="utf-8")
        families = "wan|skyreels|ltxv|hyvideo|hunyuan"
        named = set(re.findall(rf"`((?:{families})[\w.]*-[\w.-]+)`", text))
        named = {name for name in named if not name.endswith(".safetensors")}
        assert named <= ids, name_of(file)


def test_way_to_get_each_model_is_documented() -> None:
    commands = section(MODELS, "Getting the files")
    for variant in all_variants().values():
        if variant.hub and not variant.files:
            target = f"ckpts/{variant.folder}"
            assert f"hf download {variant.hub} --local-dir {target}\n" in commands


def test_documented_defaults_are_the_models_defaults() -> None:
    text = section(MODELS, "Defaults")
    heading = next(line for line in text.splitlines() if line.startswith("| Model"))
    fields = code_in(heading)
    table = {code_in(model)[0]: values for model, *values in rows(text)}
    assert list(table) == list(all_variants())
    for model, values in table.items():
        defaults = all_variants()[model].defaults
        assert set(defaults) <= set(fields)
        assert values == [_default(field, defaults.get(field)) for field in fields]


def _default(field: str, value: object) -> str:
    if field == "negative_prompt":
        return "its authors'" if value else "none"
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:g}"


def test_documented_limits_are_the_models_limits() -> None:
    table = {
        code_in(model)[0]: values for model, *values in rows(section(MODELS, "Limits"))
    }
    assert table == {
        model: [
            f"{limits.min_size} to {limits.max_size}",
            str(limits.size_multiple),
            f"{limits.max_frames} frames",
            f"{limits.frames_multiple}k + 1 frames",
            str(limits.min_vae_tile or "none"),
        ]
        for model, variant in all_variants().items()
        for limits in [variant.limits]
    }


def test_every_scheduler_is_documented() -> None:
    text = section(MODELS, "Defaults")
    for variant in all_variants().values():
        for scheduler in variant.schedulers:
            assert f"`{scheduler}`" in text


def test_every_memory_profile_is_documented() -> None:
    documented = names_in_first_column(section(MODELS, "Memory profiles"))
    allowed = get_args(Settings.model_fields["profile"].annotation)
    assert ["auto", *documented] == list(allowed)


def requests_in_docs() -> list[object]:
    examples = [
        json.loads(file.read_text(encoding="utf-8"))
        for file in sorted((ROOT / "docs/examples").glob("*.json"))
    ]
    snippets = [
        json.loads(block)
        for file in DOCS
        for block in blocks(file.read_text(encoding="utf-8"), "json")
    ]
    flat = [
        request
        for value in [*examples, *snippets]
        for request in (value if isinstance(value, list) else [value])
    ]
    return [request for request in flat if "prompt" in request]


@pytest.mark.parametrize("request_in_docs", requests_in_docs(), ids=str)
def test_requests_in_the_docs_are_accepted(
    request_in_docs: object, settings: Settings
) -> None:
    accept(request_in_docs, folder=None, settings=settings)


def test_settings_in_the_docs_are_accepted() -> None:
    found = blocks(section(COMMAND_LINE, "Settings file"), "json")
    assert found
    for block in found:
        Settings.model_validate_json(block)


def anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("file", DOCS, ids=name_of)
def test_links_lead_somewhere(file: Path) -> None:
    text = re.sub(r"^```.*?^```", "", file.read_text("utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), f"{name_of(file)} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{name_of(file)} links to {link}"


def test_architecture_has_one_line_for_every_module() -> None:
    listed = re.findall(r"^- `([^`]+\.py)`", read("docs/architecture.md"), re.MULTILINE)
    there = [
        name_of(file)
        for file in [*python_files("engine", "app", *FAMILY_FOLDERS), ROOT / "wgp.py"]
        if file.name != "__init__.py"
    ]
    assert sorted(listed) == sorted(there)


def test_files_named_in_the_docs_exist() -> None:
    folders = ("engine", "app", "demo", "bench", "tests", *FAMILY_FOLDERS)
    pattern = rf"`((?:{'|'.join(folders)})/[\w/.-]*)`"
    for file in DOCS:
        for name in re.findall(pattern, file.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{name_of(file)} names {name}"


def test_every_decision_is_listed_in_order() -> None:
    folder = ROOT / "docs/decisions"
    pages = sorted(file.name for file in folder.glob("[0-9]*.md"))
    numbers = [int(page[:4]) for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    listed = re.findall(
        r"^(\d+)\. \[(.+)\]\((.+)\)$", read(name_of(folder / "README.md")), re.M
    )
    assert [link for *_, link in listed] == pages
    for number, title, link in listed:
        assert (folder / link).read_text("utf-8").startswith(f"# {number}. {title}\n")


def test_every_pin_has_its_reason_and_its_licence() -> None:
    pins = re.findall(r"^([\w-]+)==", read("requirements.txt"), re.MULTILINE)
    tools = re.findall(r"^([\w-]+)==", read("requirements-dev.txt"), re.MULTILINE)
    decisions = rows(read("docs/decisions/0006-dependencies.md"))
    assert sorted(row[0] for row in decisions) == sorted([*pins, *tools])
    licences = read("THIRD_PARTY.md")
    assert [
        row[0] for row in rows(section("THIRD_PARTY.md", "Direct dependencies"))
    ] == pins
    for tool in tools:
        assert f"{tool} (" in licences


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    released = re.search(r"^## \[(\d[\d.]*)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert released
    assert project == engine.__version__ == released[1]


def test_labels_in_the_user_guide_stand_on_the_page() -> None:
    page = "".join(file.read_text(encoding="utf-8") for file in python_files("app/ui"))
    labels = set(re.findall(r"\*\*([^*]+)\*\*", read("docs/user-guide.md")))
    labels -= {"Width", "Height"}  # made from the fields' names
    assert labels
    for label in labels:
        assert re.search(rf"""["'>]{re.escape(label)}["'<]""", page), label
