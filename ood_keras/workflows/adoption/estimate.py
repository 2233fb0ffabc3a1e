"""A rough time of an adoption, before it starts."""

import dataclasses

from ood_keras.evaluation import under_renderings

# Fits and scores beside the network's own passes, and the exports: measured roughly.
_SHARE_OF_DETECTORS = 1.5
_FIXED_SECONDS = 60.0
_SECONDS_PER_FORMAT = 20.0


@dataclasses.dataclass(frozen=True)
class Amount:
    """How much there is to do.

    Attributes:
        fitting: Pictures to fit detectors on.
        scoring: Pictures to score, known and unknown.
        sources: Data sets that are rendered.
        passes: Passes over the pictures to fit on.
        formats: Files to convert to.
        renderings: "none", "short" or "full".
    """

    fitting: int
    scoring: int
    sources: int
    passes: int
    formats: int
    renderings: under_renderings.Extent


def seconds(amount: Amount, per_picture: float) -> float:
    """About how long it takes, if the network takes `per_picture` seconds for one."""
    rendered = 0.0
    if amount.renderings != "none":
        steps = 8 if amount.renderings == "short" else 40
        limit = under_renderings.NUM_IMAGES[amount.renderings]
        rendered = steps * amount.sources * min(limit, amount.scoring)
    pictures = amount.passes * amount.fitting + amount.scoring + rendered
    return (
        _FIXED_SECONDS
        + _SECONDS_PER_FORMAT * amount.formats
        + _SHARE_OF_DETECTORS * per_picture * pictures
    )


def describe(amount: Amount, per_picture: float) -> str:
    """The same in words: "less than a minute", "about 3 minutes", "about 2.5 hours"."""
    number = seconds(amount, per_picture)
    if number < 60:
        return "less than a minute"
    if number < 5400:
        minutes = round(number / 60)
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {number / 3600:.1f} hours"
