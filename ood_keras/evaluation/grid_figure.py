"""One picture of every unknown source: features, ROC and density."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ood_keras import metrics
from ood_keras.conventions import percent
from ood_keras.evaluation import figure_parts, style
from ood_keras.evaluation.feature_figures import plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.use_style
def grid(
    known_scores: np.ndarray,
    unknown_scores: Mapping[str, np.ndarray],
    known_features: np.ndarray,
    known_labels: np.ndarray,
    unknown_features: Mapping[str, np.ndarray],
    *,
    what: str | None = None,
    threshold: float | None = None,
    seen: Collection[str] = (),
    class_names: Sequence[str] | None = None,
) -> "Figure":
    """Draws Figure 6 of the paper for every unknown source: features, ROC, density.

    Args:
        known_scores: `ood_score` of the known images, `(num_known,)`.
        unknown_scores: `{source: ood_score}` with arrays `(num_unknown,)`.
        known_features: `(num_pictured, size)`; may be a sample of the known images.
        known_labels: The classes `0..N-1` of `known_features`, `(num_pictured,)`.
        unknown_features: `{source: features}`, with the sources of `unknown_scores`.
        what: What the plane is, where the features are those of `plane` already.
        threshold: Draws the line `ood_score = threshold` in the densities.
        seen: Names of the sources that training was exposed to.
        class_names: Written at the classes; the integers if `None`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    project, drawn = plane(known_features)
    figure, axes = figure_parts.new_figure(len(unknown_scores), 3, (3.3, 2.1))
    bins = figure_parts.score_bins([known_scores, *unknown_scores.values()], threshold)
    smallest = figure_parts.smallest_share(unknown_scores)
    shown = figure_parts.name_sources(unknown_scores, seen)
    for row, (source, scores) in enumerate(unknown_scores.items()):
        color = style.source_color(row)
        left, middle, right = axes[row]
        left.sharex(axes[0, 0])
        left.sharey(axes[0, 0])
        figure_parts.draw_features(
            left,
            project(known_features),
            known_labels,
            project(unknown_features[source]),
            class_names,
            size=3,
        )
        left.set_title(shown[source])
        figure_parts.draw_roc(
            middle, known_scores, scores, color=color, smallest=smallest
        )
        figure_parts.set_roc_axes(middle, smallest)
        auroc = percent(metrics.auroc(known_scores, scores), ".2f")
        middle.set_title(f"AUROC {auroc}")
        middle.set_ylabel("known accepted")
        figure_parts.draw_density(right, known_scores, scores, bins, color)
        right.set_ylabel("share of images")
        if threshold is not None:
            figure_parts.draw_threshold(right, threshold)
    axes[-1, 0].set_xlabel(style.literal(what or drawn))
    axes[-1, 1].set_xlabel("unknown accepted")
    axes[-1, 2].set_xlabel("ood_score")
    figure.legend(
        handles=figure_parts.density_handles(threshold),
        loc="outside upper right",
        ncols=3,
    )
    figure_parts.separate_names(figure, axes[:, 0])
    return figure
