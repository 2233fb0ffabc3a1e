"""What is said of data that are used as they are, but probably not as was meant."""

import warnings


class DataWarning(UserWarning):
    """Data is used as it is, but something about it is probably not meant.

    The commands show each as a line of its own; `warnings.simplefilter("error",
    pipelines.DataWarning)` makes errors of them.
    """


def warn(message: str) -> None:
    """Warns of data, once for each message."""
    warnings.warn(message, DataWarning, stacklevel=3)
