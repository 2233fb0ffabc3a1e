"""Numbers that count something, from whatever a user passes."""

import numpy as np
import pytest

from ood_keras.conventions import (
    check_count,
    check_fraction,
    check_num_classes,
    check_number,
    percent,
)


@pytest.mark.parametrize("value", [2, 10.0, np.int64(3), np.float32(4)])
def test_whole_numbers_of_any_type_become_ints(value):
    for checked in (check_num_classes(value), check_count("ratio", value)):
        assert type(checked) is int
        assert checked == value


@pytest.mark.parametrize("value", [0, -1, 2.5, True, None, "3", [3], np.nan, np.inf])
def test_all_else_says_what_was_expected_and_received(value):
    with pytest.raises(ValueError, match=r"at least 2.*Received: num_classes="):
        check_num_classes(value)
    with pytest.raises(ValueError, match=r"`ratio` must be an integer >= 1.*ratio="):
        check_count("ratio", value)


def test_one_class_alone_is_no_classifier():
    with pytest.raises(ValueError, match="at least 2"):
        check_num_classes(1)
    assert check_count("ratio", 1) == 1


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", [0, 1, np.float32(0.5), np.array(0.5)], [-1e-9, 1.1]),
        ("[0, 1)", [0, 0.5], [1, 1.0]),
        ("(0, 1]", [1, 0.5], [0, -0.0]),
        ("(0, inf)", [1e300, np.int64(3)], [0, -1, 10**400]),
    ],
)
def test_a_number_lies_in_its_interval(interval, inside, outside):
    for value in inside:
        number = check_number("beta", value, interval)
        assert type(number) is float
        assert number == value
    for value in [*outside, None, "0.5", b"1", True, [0.5], np.nan, np.inf]:
        with pytest.raises(ValueError) as error:
            check_number("beta", value, interval, "the weight")
        expected = f"`beta` must be a number in {interval}, the weight. Received: beta="
        assert str(error.value).startswith(expected)


@pytest.mark.parametrize("value", [0, 1, 95, "0.95", None, [0.5], np.nan, True])
def test_a_fraction_lies_between_0_and_1(value):
    assert check_fraction("target", np.float64(0.95)) == 0.95
    with pytest.raises(ValueError, match=r"`target` is a fraction.*as 0\.95.*target="):
        check_fraction("target", value)


@pytest.mark.parametrize("value", [-1e-9, 1, 95, "0.95", None, np.nan, False])
def test_some_fractions_may_be_0(value):
    assert check_fraction("cutoff", 0, zero=True) == 0.0
    with pytest.raises(ValueError, match=r"`cutoff` .*at least 0 and below 1.*cutoff="):
        check_fraction("cutoff", value, zero=True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.95,), "95 %"),
        ((0.99954321,), "99.95 %"),
        ((1 / 3, ".2f"), "33.33 %"),
        ((0.5, ".2f", ""), "50.00"),
        ((np.float32(0.25), ".2f", "%"), "25.00%"),
    ],
)
def test_a_fraction_is_written_in_percent(arguments, text):
    assert percent(*arguments) == text
