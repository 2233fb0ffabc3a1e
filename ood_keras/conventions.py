"""Label conventions that every room shares.

Known classes are the integers `0..N-1`; every unknown image has the label
`UNKNOWN`. The index N of an extra unknown logit is an implementation detail of the
losses: users never write it.
"""

UNKNOWN = -1
UNKNOWN_LABEL = "__unknown__"


def check_num_classes(num_classes):
    """Returns `num_classes` as an int, or raises if it is not an integer >= 2."""
    if isinstance(num_classes, bool) or int(num_classes) != num_classes:
        raise ValueError(
            f"`num_classes` must be an integer, the number of known classes. "
            f"Received: num_classes={num_classes!r}"
        )
    if num_classes < 2:
        raise ValueError(
            "`num_classes` counts the known classes only (the unknown class is added "
            f"for you) and must be at least 2. Received: num_classes={num_classes}"
        )
    return int(num_classes)
