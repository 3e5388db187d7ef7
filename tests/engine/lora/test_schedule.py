import math

import pytest

from engine.lora.schedule import ScheduleError, multipliers_vary, parse_schedule
from engine.request import Lora


@pytest.mark.parametrize(
    ("multiplier", "steps", "values"),
    [
        (1, [3], [1, 1, 1]),
        (0.5, [2, 2], [0.5] * 4),
        ("0.8", [2], [0.8, 0.8]),
        (" -1e-1 ", [1], [-0.1]),
        ("1,0", [4], [1, 1, 0, 0]),
        ("1,0.5,0", [6], [1, 1, 0.5, 0.5, 0, 0]),
        ("1,0.5,0", [4], [1, 1, 0.5, 0]),
        ("1,2,3,4", [2], [1, 3]),
        ("1,0", [1, 3], [1, 1, 0, 0]),
        ("1;0", [1, 3], [1, 0, 0, 0]),
        ("1;0.5,0", [2, 4], [1, 1, 0.5, 0.5, 0, 0]),
        ("0.9,0.8;1.2,1.1,1", [2, 3], [0.9, 0.8, 1.2, 1.1, 1]),
        ("1;0", [4], [1, 1, 0, 0]),
        ("1;0", [5], [1, 1, 0, 0, 0]),
        ("1,2;3", [4], [1, 2, 3, 3]),
        ("1;2;3", [3], [1, 2, 3]),
        ("1;0", [0, 2], [0, 0]),
        (".5,+1.", [2], [0.5, 1]),
    ],
)
def test_a_schedule_gives_each_step_its_multiplier(multiplier, steps, values):
    assert parse_schedule(multiplier).at_steps(steps) == pytest.approx(values)


@pytest.mark.parametrize(
    ("multiplier", "said"),
    [
        (";;", "nothing in phase 1 of 3"),
        ("1;;2", "nothing in phase 2 of 3"),
        ("1;", "nothing in phase 2 of 2"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("1,,2", "nothing as value 2 of 3"),
        ("1;0.5,x", "'x' as value 2 of 2 in phase 2 of 2, which isn't a number"),
        ("1e9", "1e9; it must be between -10 and 10"),
        ("1,-11", "-11 as value 2 of 2; it must be between"),
        (1e9, "1e\\+09; it must be between"),
        (math.nan, "nan; it must be between"),
        ("nan", "'nan', which isn't a number"),
        ("inf", "'inf', which isn't a number"),
        ("1e400", "1e400; it must be between"),
        ("0x10", "'0x10'"),
        ("1_0", "'1_0'"),
        ("\u0661", "isn't a number"),
        ("1 2", "'1 2', which isn't a number"),
        ("1|", "nothing in phase 1 of 1 in window 2 of 2|nothing in window 2 of 2"),
        ("1|0.5;x", "'x' in phase 2 of 2 in window 2 of 2"),
        ("9" * 5000, "more than 4000 characters"),
        ("word " * 20, "'word word word wo...'"),
    ],
)
def test_an_error_names_its_place(multiplier, said):
    with pytest.raises(ScheduleError, match=said):
        parse_schedule(multiplier)


def test_phases_have_to_be_those_of_the_model():
    schedule = parse_schedule("1;2;3")
    with pytest.raises(ScheduleError, match=r"3 phases .* the model has 2"):
        schedule.at_steps([2, 2])


def test_windows_have_multipliers_of_their_own():
    schedule = parse_schedule("1;0 | 0.5,0 | 0")
    windows = [window.at_steps([1, 1]) for window in schedule.windows]
    assert windows == [(1, 0), (0.5, 0), (0, 0)]
    assert not schedule.is_zero
    assert parse_schedule("0|0,0").is_zero
    assert not parse_schedule("0|0,1").is_zero
    assert parse_schedule("0|0;1").acts_in(1)
    with pytest.raises(ScheduleError, match="has 3 phases"):
        parse_schedule("1|1;2;3").check_phases(2)


def test_a_schedule_knows_where_it_acts():
    assert parse_schedule("0,0;0").is_zero
    schedule = parse_schedule("0;0,1")
    assert (schedule.acts_in(0), schedule.acts_in(1)) == (False, True)
    assert parse_schedule("1").acts_in(1)


@pytest.mark.parametrize(
    ("multipliers", "alone", "in_a_pair"),
    [
        ((), False, False),
        ((0.5, "0.5"), False, False),
        (("1,1",), False, False),
        (("1,0.5",), True, True),
        (("1;0",), True, False),
        (("1;1,0",), True, True),
        ((1.0, "0,1"), True, True),
    ],
)
def test_whether_a_transformers_steps_differ(multipliers, alone, in_a_pair):
    loras = [Lora(name="a.safetensors", multiplier=each) for each in multipliers]
    assert multipliers_vary(loras, pair=False) is alone
    assert multipliers_vary(loras, pair=True) is in_a_pair
