"""Label conventions that every room shares.

Known classes are the integers `0..N-1`; every unknown image has the label
`UNKNOWN`. The index N of an extra unknown logit is an implementation detail of the
losses: users never write it.
"""

import math
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    from ood_keras.types import Scores, Tensor

#: The label of every unknown image.
UNKNOWN = -1
#: What an exported model calls an image that it rejects.
UNKNOWN_LABEL = "__unknown__"
# The `ood_score` of invalid input (NaN, out of range, undecodable), always rejected:
# the largest float32 and not infinity, which JSON, and so the REST interface of a
# server, cannot carry.
REJECTED_SCORE = (2 - 2**-23) * 2.0**127
# An exported model takes pixels in [0, 1], with room for the rounding of whoever
# prepared them; they are clipped.
RANGE_TOLERANCE = 1e-3
# So many images get heat maps in one request to an exported model: each takes about two
# hundred runs of its network.
MOST_EXPLAINED = 64

# Gigabytes of pixels, of one part of a data source, that are kept in memory, where the
# environment does not say otherwise; more are read from disk. Copies that are made on
# the way take a few times as much.
MOST_GB_IN_MEMORY = 0.5
#: The environment variables that change it, and that name the folder of the pixels. No
#: bit of a result depends on them, so they hold for a command and all that it starts.
MEMORY_VARIABLE = "OOD_KERAS_MEMORY_GB"
CACHE_VARIABLE = "OOD_KERAS_CACHE_DIR"


def accepts(scores: "Scores", threshold: "Tensor") -> "np.ndarray":
    """Which `ood_score`s a threshold accepts, decided in float32 as every graph does.

    A score decides alike as float32, as its float64 copy and as text that was written
    of it, since all three are the same float32 number.

    Args:
        scores: Numbers, or texts of numbers, of any shape; NaN is never accepted.
        threshold: Largest accepted `ood_score`, a number or an array that broadcasts.

    Returns:
        Bool array of the shape of `scores`.

    Raises:
        ValueError: a text is no number.
    """
    # Here and not above: what only reads labels does without NumPy.
    import numpy as np

    scores = np.asarray(scores)
    # Beyond float32 is infinite, as in a graph.
    with np.errstate(over="ignore"):
        try:
            narrow = scores.astype(np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`scores` must be numbers, or texts such as '-1.25'. An image that "
                "could not be read has no score; leave it out, it is not accepted. "
                f"Received: {error}"
            ) from error
        return narrow <= np.asarray(threshold).astype(np.float32)


def check_num_classes(num_classes: Any, *, least: Literal[1, 2] = 2) -> int:
    """Returns `num_classes` as an int, or raises if it is not an integer >= `least`.

    Args:
        num_classes: What the user gave.
        least: 1 where one known class alone means something: beside an unknown class,
            or where features are measured; 2 where known classes are told apart.
    """
    if not is_integer(num_classes) or num_classes < least:
        raise ValueError(
            "`num_classes` counts the known classes only (the unknown class is added "
            f"for you) and must be an integer, at least {least}"
            + (
                ", since one class alone is told from nothing"
                if num_classes == 1
                else ""
            )
            + f". Received: num_classes={num_classes!r}"
        )
    return int(num_classes)


def check_count(name: str, value: Any) -> int:
    """Returns `value` as an int, or raises if it is not an integer >= 1."""
    if not is_integer(value) or value < 1:
        raise ValueError(
            f"`{name}` must be an integer >= 1. Received: {name}={value!r}"
        )
    return int(value)


def check_seed(seed: Any) -> int:
    """Returns `seed` as an int, or raises if it is not an integer >= 0."""
    if not is_integer(seed) or seed < 0:
        raise ValueError(f"`seed` must be an integer >= 0. Received: seed={seed!r}")
    return int(seed)


def check_number(name: str, value: Any, interval: str, meaning: str = "") -> float:
    """Returns `value` as a float, or raises unless it is a finite number in `interval`.

    Args:
        name: Name of the argument, for the message.
        value: What the user gave. Text and bools are no numbers.
        interval: Text such as "[0, 1)" or "(0, inf)"; a round bracket leaves its end
            out.
        meaning: What the number says, for the message; for example "the weight of an
            unknown image".
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    number = _finite(value)
    if (
        number is None
        or not low <= number <= high
        or (interval[0] == "(" and number == low)
        or (interval[-1] == ")" and number == high)
    ):
        raise ValueError(
            f"`{name}` must be a number in {interval}{', ' if meaning else ''}{meaning}"
            f". Received: {name}={value!r}"
        )
    return number


def check_fraction(name: str, value: Any, *, zero: bool = False) -> float:
    """Returns `value` as a float, or raises unless it is a fraction below 1.

    Args:
        name: Name of the argument, for the message.
        value: What the user gave. Text and bools are no numbers.
        zero: Whether 0 is allowed; 1 never is.
    """
    number = _finite(value)
    if number is None or not 0 <= number < 1 or (number == 0 and not zero):
        limits = "of at least 0 and below 1" if zero else "strictly between 0 and 1"
        raise ValueError(
            f"`{name}` is a fraction {limits}; write 95 % as 0.95. "
            f"Received: {name}={value!r}"
        )
    return number


def check_float64(what: str) -> None:
    """Raises where JAX would silently compute in float32 instead of float64.

    Args:
        what: What is computed in float64, for the message.
    """
    import keras

    if keras.backend.backend() != "jax":
        return
    import jax

    if not jax.config.jax_enable_x64:
        raise ValueError(
            f"{what} is computed in float64, which JAX rounds to float32 unless told "
            'otherwise; call `jax.config.update("jax_enable_x64", True)` before '
            "anything else"
        )


def percent(fraction: float, spec: str = ".4g", unit: str = " %") -> str:
    """Returns a fraction in percent: `0.95` as "95 %".

    Args:
        fraction: A number.
        spec: How the percentage is written: ".4g" in sentences, ".2f" in tables, whose
            numbers stand below one another.
        unit: What follows the number; "" where a column says it.
    """
    return f"{100 * fraction:{spec}}{unit}"


def is_integer(value: Any) -> bool:
    """Whether `value` is a whole number of any number type; text and bools are not."""
    try:
        return not isinstance(value, bool) and int(value) == value
    except (TypeError, ValueError, OverflowError):
        return False


def _finite(value: Any) -> float | None:
    """`value` as a float, or `None` if it is not a finite number."""
    if isinstance(value, (str, bytes, bool)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
