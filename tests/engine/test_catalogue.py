"""Rows of data become models, or sentences that say what is wrong where."""

import re
from dataclasses import dataclass, replace

import pytest

from engine.catalogue import all_models, get_model, own_models, read_rows
from engine.errors import RequestError, UnreadableFile
from engine.family import FORBID_EXTRA, WeightFile, get_variant

ROWS = """
small:
  title: Small
  description: Makes videos from words.
  defaults:
    width: 96
    fps: 16
    strength: 0.5
  limits:
    size_multiple: 16
    min_size: 32
    max_size: 512
    frames_multiple: 4
    max_frames: 81
  folder: shared/small
  licence: Apache-2.0
  media: [image_start, image_end]
  files:
    vae:
      - {repository: a/b, path: vae.safetensors, gigabytes: 0.5}
    transformer:
      - {repository: a/b, path: half.safetensors, gigabytes: 2}
      - {repository: a/b, path: small.safetensors, gigabytes: 1, precision: int8}
  options:
    task: text

large:
  base: small
  title: Large
  defaults:
    width: 192
    strength: null
  limits:
    max_size: 1024
  media: [image_start]
  files:
    transformer:
      - {repository: a/c, path: large.safetensors, gigabytes: 9}
    vae: null
"""


@dataclass(frozen=True)
class Options:
    __pydantic_config__ = FORBID_EXTRA

    task: str


@pytest.fixture
def read(tmp_path):
    def read(text):
        file = tmp_path / "models.yaml"
        file.write_text(text, "utf-8")
        return read_rows(file, "fake", Options)

    return read


def test_a_row_takes_over_what_it_does_not_say(read):
    small, large = read(ROWS)
    assert (small.id, large.id) == ("small", "large")
    assert small.defaults == {"width": 96, "fps": 16, "strength": 0.5}
    assert large.defaults == {"width": 192, "fps": 16}
    assert (large.limits.max_size, large.limits.min_size) == (1024, 32)
    assert (large.family, large.title, large.licence) == (
        "fake",
        "Large",
        "Apache-2.0",
    )
    assert large.media == {"image_start"}
    assert large.options == small.options == Options("text")


def test_files_are_taken_over_component_by_component(read):
    small, large = read(ROWS)
    assert [file.precision for file in small.files["transformer"]] == ["bf16", "int8"]
    assert large.files == {
        "transformer": (WeightFile("a/c", "large.safetensors", 9.0),)
    }


def test_the_folder_is_the_id_where_a_row_names_none(read):
    small, large = read(ROWS)
    assert (small.folder, large.folder) == ("shared/small", "large")


def test_a_row_may_stand_before_its_base(read):
    small, large = ROWS.split("\nlarge:")
    assert [row.title for row in read(f"large:{large}\n{small}")] == ["Large", "Small"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("title: Large", "titel: Large", "large: titel: no such key; did you mean"),
        ("base: small", "base: smal", "large: base: no row is 'smal'; did you mean"),
        ("base: small", "base: large", "large: base: goes round in a circle"),
        (
            "    width: 192",
            "    widht: 192",
            "large: defaults: widht: no such key; did you mean 'width'",
        ),
        (
            "    width: 192",
            "    width: wide",
            "large: defaults: width: input should be",
        ),
        ("max_size: 1024", "max_size: big", "large: limits.max_size: input should be"),
        ("max_size: 1024", "largest: 1024", "large: limits.largest: no such key"),
        (
            "gigabytes: 9}",
            "gigabyte: 9}",
            "large: files.transformer.0.gigabyte: no",
        ),
        ("task: text", "tusk: text", "small: options: task: "),
        ("title: Small", "Title: Small", "small: Title: no such key; did you mean"),
        ("  title: Small\n", "", "small: title: is missing"),
    ],
)
def test_an_error_names_file_row_and_key(read, before, after, said):
    assert before in ROWS
    with pytest.raises(UnreadableFile, match=f"models.yaml: {said}"):
        read(ROWS.replace(before, after))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- small", "must map keys to values"),
        ("small: 1", "small: a row maps keys to values"),
        ("small: {", "can't read .*models.yaml"),
        ("a: !!python/object/apply:os.getcwd []", "can't read .*models.yaml"),
    ],
)
def test_what_is_no_catalogue_is_refused(read, text, said):
    with pytest.raises(UnreadableFile, match=said):
        read(text)


def write_model(settings, name, text):
    settings.models.mkdir(parents=True, exist_ok=True)
    file = settings.models / f"{name}.yaml"
    file.write_text(text, "utf-8")
    return file


def test_a_file_of_the_users_is_a_model_at_once(settings):
    assert "quick-demo" not in all_models(settings)
    write_model(
        settings,
        "quick-demo",
        "base: wan-demo\ntitle: Quick\ndefaults: {num_inference_steps: 4}\n",
    )
    own, base = get_model("quick-demo", settings), get_variant("wan-demo")
    assert all_models(settings)["quick-demo"] == own
    changed = {"id": "quick-demo", "title": "Quick", "defaults": own.defaults}
    assert own == replace(base, **changed)
    assert own.defaults == {**base.defaults, "num_inference_steps": 4}


def test_a_changed_file_is_read_anew(settings):
    write_model(settings, "mine", "base: wan-demo\ntitle: Before\n")
    assert get_model("mine", settings).title == "Before"
    write_model(settings, "mine", "base: wan-demo\ntitle: After it\n")
    assert get_model("mine", settings).title == "After it"


def test_a_transformer_of_ones_own_leaves_the_rest_to_the_base(settings):
    write_model(
        settings,
        "mine",
        "base: wan2.1-t2v-14b\nfiles: {transformer: [{path: my.safetensors}]}\n",
    )
    own = get_model("mine", settings)
    assert own.files == {"transformer": (WeightFile("", "my.safetensors"),)}
    assert (own.folder, own.base_folder) == ("mine", "wan2.1-t2v-14b")
    assert own.hub == "Wan-AI/Wan2.1-T2V-14B-Diffusers"


def test_a_row_of_single_files_keeps_the_others(settings):
    write_model(
        settings,
        "mine",
        "base: ltxv-13b-0.9.7\nfiles: {transformer: [{path: my.safetensors}]}\n",
    )
    own, base = get_model("mine", settings), get_variant("ltxv-13b-0.9.7")
    assert own.files["vae"] == base.files["vae"]
    assert own.folder == base.folder
    assert own.options == base.options


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "mine",
            "title: Mine\n",
            "mine.yaml: base: must be the id of one of",
        ),
        ("mine", "base: wan-demi\n", "mine.yaml: base: must be the id"),
        ("mine", "base: wan-demo\ntitel: Mine\n", "mine: titel: no such key; did you"),
        ("mine", "- wan-demo\n", "mine.yaml must map keys to values"),
        ("My Model", "base: wan-demo\n", "small letters, digits, dots and hyphens"),
        ("wan-demo", "base: wan-demo\n", "the app has a model of this name"),
        *(
            (
                "mine",
                f"base: wan-demo\nfiles: {{vae: [{{{choice}}}]}}\n",
                "files.vae: .* must be a path below a folder of models",
            )
            for choice in (
                "path: /etc/passwd",
                "path: ../other/vae.safetensors",
                'path: "C:\\\\vae.safetensors"',
                "repository: ../other, path: vae.safetensors",
            )
        ),
        ("mine", "base: wan-demo\nfolder: ../elsewhere\n", "folder: follows from the"),
        ("mine", "base: wan-demo\nid: other\n", "id: follows from the file's name"),
        ("mine", "base: wan-demo\nfiles: 3\n", "mine: files: input should be"),
        ("mine", "base: wan-demo\nfiles: {vae: [3]}\n", "mine: files.vae.0: input"),
        ("mine", "base: wan-demo\ndefaults: {fps: fast}\n", "defaults: fps: input"),
        ("mine", "base: [wan-demo]\n", "base: must be the id of one of"),
        ("mine", "\0", "can't read .*mine.yaml"),
        ("mine", "", "must map keys to values"),
    ],
)
def test_a_broken_file_is_named_and_the_others_stay(settings, name, text, said):
    file = write_model(settings, name, text)
    write_model(settings, "sound", "base: wan-demo\n")
    own = own_models(settings)
    assert list(own.rows) == ["sound"]
    assert re.search(said, own.problems[name])
    assert str(file) in own.problems[name]
    with pytest.raises(RequestError, match=said):
        get_model(name, settings)
