"""Rows of data become models, or sentences that say what is wrong where."""

from dataclasses import dataclass

import pytest

from engine.catalogue import read_rows
from engine.errors import UnreadableFile
from engine.family import FORBID_EXTRA, WeightFile

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
        ("    width: 192", "    widht: 192", "large: defaults: widht: no such field"),
        ("    width: 192", "    width: wide", "large: defaults: width: must be a"),
        ("max_size: 1024", "max_size: big", "large: limits.max_size: input should be"),
        ("max_size: 1024", "largest: 1024", "large: limits.largest: unexpected"),
        ("gigabytes: 9}", "gigabyte: 9}", "large: files.transformer.0.gigabytes: "),
        ("task: text", "tusk: text", "small: options: task: "),
        ("title: Small", "Title: Small", "small: Title: no such key; did you mean"),
        ("  title: Small\n", "", "small: title: field required"),
    ],
)
def test_an_error_names_file_row_and_key(read, before, after, said):
    assert before in ROWS
    with pytest.raises(UnreadableFile, match=f"models.yaml: {said}"):
        read(ROWS.replace(before, after))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- small", "has no models; it must map ids to rows"),
        ("small: 1", "small: a row maps keys to values"),
        ("small: {", "can't read .*models.yaml"),
        ("a: !!python/object/apply:os.getcwd []", "can't read .*models.yaml"),
    ],
)
def test_what_is_no_catalogue_is_refused(read, text, said):
    with pytest.raises(UnreadableFile, match=said):
        read(text)
