"""One of each kind that ood_keras can be given; importing this registers them."""

from lookout import (
    augmentation,
    detector,
    loss,
    metric,
    rendering,
    sources,
    threshold,
)

__all__ = [
    "augmentation",
    "detector",
    "loss",
    "metric",
    "rendering",
    "sources",
    "threshold",
]
