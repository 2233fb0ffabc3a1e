"""The pictures of an evaluation, from plain arrays.

Every function returns a `matplotlib.figure.Figure` and leaves pyplot's state, its
backend and the user's style alone. Save one with `figure.savefig(path)`. Throughout,
`ood_score` is higher for images that are more likely unknown, and an image is accepted
when `ood_score <= threshold`.
"""

from ood_keras.evaluation.feature_figures import features_2d, features_compared, plane
from ood_keras.evaluation.grid_figure import grid
from ood_keras.evaluation.picture_figure import pictures
from ood_keras.evaluation.robustness_figure import mean_auroc, robustness
from ood_keras.evaluation.score_figures import (
    density,
    perturbed_density,
    roc,
    score_among,
)
from ood_keras.evaluation.training_figure import training_curve

__all__ = [
    "density",
    "features_2d",
    "features_compared",
    "grid",
    "mean_auroc",
    "perturbed_density",
    "pictures",
    "plane",
    "robustness",
    "roc",
    "score_among",
    "training_curve",
]
