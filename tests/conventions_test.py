"""Numbers that count something, from whatever a user passes."""

import numpy as np
import pytest

from ood_keras.conventions import check_count, check_num_classes


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
