"""A rough time of an adoption, before it starts."""

import dataclasses

from ood_keras.evaluation import under_renderings

# What a picture takes, in runs of the network: with detectors that read every map or
# move the picture along a gradient, and with others. Measured on MobileNetV2, see
# `benchmarks/results/adoption_size.json`.
HEAVY = frozenset({"gram", "odin"})
_FITTING = {True: 4.0, False: 1.5}
_SCORING = {True: 12.0, False: 1.5}
_FIXED_SECONDS = 60.0
_SECONDS_PER_FORMAT = 20.0


@dataclasses.dataclass(frozen=True)
class Amount:
    """How much there is to do.

    Attributes:
        fitting: Pictures to fit detectors on.
        scoring: Pictures to score, known and unknown.
        sources: Data sets that are rendered.
        heavy: Whether some of `HEAVY` are among the detectors.
        formats: Files to convert to.
        renderings: "none", "short" or "full".
    """

    fitting: int
    scoring: int
    sources: int
    heavy: bool
    formats: int
    renderings: under_renderings.Extent


def seconds(amount: Amount, per_picture: float) -> float:
    """About how long it takes, if the network takes `per_picture` seconds for one."""
    rendered = 0.0
    if amount.renderings != "none":
        steps = 8 if amount.renderings == "short" else 40
        limit = under_renderings.NUM_IMAGES[amount.renderings]
        rendered = steps * amount.sources * min(limit, amount.scoring)
    runs = _FITTING[amount.heavy] * amount.fitting + _SCORING[amount.heavy] * (
        amount.scoring + rendered
    )
    return _FIXED_SECONDS + _SECONDS_PER_FORMAT * amount.formats + per_picture * runs


def describe(amount: Amount, per_picture: float) -> str:
    """The same in words: "less than a minute", "about 3 minutes", "about 2.5 hours"."""
    number = seconds(amount, per_picture)
    if number < 60:
        return "less than a minute"
    if number < 5400:
        minutes = round(number / 60)
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {number / 3600:.1f} hours"
