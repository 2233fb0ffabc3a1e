"""The exact interval of a measured rate."""

from ood_keras.conventions import check_fraction, is_integer


def clopper_pearson(
    num_accepted: int, num_images: int, confidence: float = 0.95
) -> tuple[float, float]:
    """The exact interval of an acceptance rate (Clopper and Pearson 1934).

    Of fresh images, `num_accepted` were accepted; whatever the true rate is, the
    interval holds it with at least the stated probability. Use it for the rate that
    was measured on test images. For the rate to expect before any is measured, a
    conformal or quantile threshold has `acceptance_interval`.

    Args:
        num_accepted: How many images were accepted, an integer.
        num_images: Of how many, at least 1.
        confidence: Probability that the interval holds the true rate, in (0, 1).

    Returns:
        `(low, high)`, fractions.

    Raises:
        ValueError: the numbers are not integers `0 <= num_accepted <= num_images`, or
            `confidence` is not a fraction.

    Example:

    >>> low, high = clopper_pearson(95, 100)
    >>> round(low, 3), round(high, 3)
    (0.887, 0.984)
    """
    from scipy import special

    tail = (1 - check_fraction("confidence", confidence)) / 2
    if (
        not (is_integer(num_accepted) and is_integer(num_images))
        or not 0 <= num_accepted <= num_images
        or num_images < 1
    ):
        raise ValueError(
            "expected integers 0 <= num_accepted <= num_images and at least one image. "
            f"Received: num_accepted={num_accepted!r}, num_images={num_images!r}"
        )
    num_rejected = num_images - num_accepted
    low, high = 0.0, 1.0
    if num_accepted:
        low = special.betaincinv(num_accepted, num_rejected + 1, tail)
    if num_rejected:
        high = special.betaincinv(num_accepted + 1, num_rejected, 1 - tail)
    return float(low), float(high)
