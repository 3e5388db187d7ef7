"""Files that are whole at any moment."""

import pytest

from engine.aside import write_aside


def test_a_file_is_written_with_its_folders(tmp_path):
    file = tmp_path / "a" / "b.json"
    write_aside(file, "blå\n")
    write_aside(file, "grün\n")
    assert file.read_bytes() == "grün\n".encode()
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left_over(tmp_path):
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        write_aside(tmp_path / "taken", "new")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]
