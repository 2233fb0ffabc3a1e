"""Label conventions that every room shares.

Known classes are the integers `0..N-1`; every unknown image has the label
`UNKNOWN`. The index N of an extra unknown logit is an implementation detail of the
losses: users never write it.
"""

UNKNOWN = -1
UNKNOWN_LABEL = "__unknown__"


def check_num_classes(num_classes):
    """Returns `num_classes` as an int, or raises if it is not an integer >= 2."""
    if not is_integer(num_classes) or num_classes < 2:
        raise ValueError(
            "`num_classes` counts the known classes only (the unknown class is added "
            "for you) and must be an integer, at least 2. Received: "
            f"num_classes={num_classes!r}"
        )
    return int(num_classes)


def check_count(name, value):
    """Returns `value` as an int, or raises if it is not an integer >= 1."""
    if not is_integer(value) or value < 1:
        raise ValueError(
            f"`{name}` must be an integer >= 1. Received: {name}={value!r}"
        )
    return int(value)


def check_fraction(name, value):
    """Returns `value` as a float, or raises unless it lies strictly in (0, 1)."""
    if value is None or isinstance(value, (str, bool)) or not 0 < value < 1:
        raise ValueError(
            f"`{name}` is a fraction strictly between 0 and 1; write 95 % as 0.95. "
            f"Received: {name}={value!r}"
        )
    return float(value)


def is_integer(value):
    """Whether `value` is a whole number of any number type; text and bools are not."""
    try:
        return not isinstance(value, bool) and int(value) == value
    except (TypeError, ValueError, OverflowError):
        return False
