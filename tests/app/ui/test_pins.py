"""The table of pinned media."""

from typing import Any

import pytest

from app.ui.pins import conditions, files_and_rows, rows_for

A, B, C = "/up/1/a.png", "/up/2/b.mp4", "/up/3/c.png"


def test_first_file_goes_to_the_start_and_the_second_to_the_end() -> None:
    rows = rows_for([A, B, C], [])
    assert rows == [["a.png", 0, 1.0], ["b.mp4", -1, 1.0], ["c.png", 8, 1.0]]


def test_rows_stay_as_they_were_when_files_are_added_or_removed() -> None:
    table = [["a.png", 3, 0.5], ["b.mp4", 0, 1.0]]
    assert rows_for([A, B, C], table) == [*table, ["c.png", -1, 1.0]]
    assert rows_for([B], table) == [["b.mp4", 0, 1.0]]
    assert rows_for(None, table) == []


def test_two_files_of_one_name_keep_a_row_each() -> None:
    table = [["a.png", 3, 0.5], ["a.png", 9, 1.0]]
    assert rows_for([A, "/up/4/a.png"], table) == table


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        ([8.0, 1], {"frame_index": 8, "strength": 1}),
        ([-1.0, 0.5], {"frame_index": -1, "strength": 0.5}),
        ([8, None], {"frame_index": 8}),
        ([None, None], {}),
        ([1.5, 2], {"frame_index": 1.5, "strength": 2}),
    ],
)
def test_cells_become_a_condition(cells: list[Any], values: dict[str, Any]) -> None:
    assert conditions([A], [["a.png", *cells]]) == [{"file": A, **values}]


def test_conditions_become_the_same_again() -> None:
    pinned = [
        {"file": A, "frame_index": 0, "strength": 1.0},
        {"file": B, "frame_index": -1, "strength": 0.25},
    ]
    files, rows = files_and_rows(pinned)
    assert files == [A, B]
    assert conditions(files, rows) == pinned
