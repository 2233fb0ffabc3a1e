"""Pictures of features in the plane."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ood_keras.evaluation import figure_parts, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plane(known_features: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """Returns the map of features to the plane in which figures show them.

    Features of size 2 stay as they are; larger ones are projected on the first two
    principal components of the known features.

    Args:
        known_features: `(num_known, size)`.

    Returns:
        `(project, what)`: a function from `(n, size)` to `(n, 2)`, and a few words that
        say what the plane is.
    """
    size = known_features.shape[1]
    if size == 2:
        return (lambda rows: rows), "the 2-D feature layer itself"
    center = known_features.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(known_features - center, full_matrices=False)
    basis = np.zeros((size, 2))
    basis[:, : len(directions[:2])] = directions[:2].T
    return (
        (lambda rows: (rows - center) @ basis),
        f"2 principal components of {size} features",
    )


@style.use_style
def features_2d(
    known_features: np.ndarray,
    known_labels: np.ndarray,
    unknown_features: Mapping[str, np.ndarray],
    *,
    class_names: Sequence[str] | None = None,
) -> "Figure":
    """Draws features in the plane (Figures 5a, 6a): known by class, unknown in black.

    Features of size 2 are drawn as they are; larger ones are projected on the first two
    principal components of the known features, which unknown images take no part in.
    The title says which was done.

    Args:
        known_features: `(num_known, size)`.
        known_labels: The classes `0..N-1` of the known images, `(num_known,)`.
        unknown_features: `{source: features}` with arrays `(num_unknown, size)`. As
            many unknown as known images are drawn, the first of each source.
        class_names: Written at the classes; the integers if `None`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    project, what = plane(known_features)
    figure, axes = figure_parts.new_figure(1, 1, (6.4, 5.6))
    share = -(-len(known_features) // len(unknown_features))
    figure_parts.draw_features(
        axes[0, 0],
        project(known_features),
        known_labels,
        project(np.concatenate([rows[:share] for rows in unknown_features.values()])),
        class_names,
        size=6,
    )
    axes[0, 0].set_title(f"Known (by class) and unknown (black): {what}")
    figure_parts.separate_names(figure, axes[0])
    return figure


@style.use_style
def features_compared(
    networks: Mapping[str, tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]],
    *,
    class_names: Sequence[str] | None = None,
) -> "Figure":
    """Draws the 2-D features of several networks side by side (Figures 5a, 6a and 7).

    Above, known images by class, unknown images in black and the origin as a cross;
    below, how long the feature vectors are.

    Args:
        networks: `{title: (known_features, known_labels, unknown_features)}` of sizes
            `(num_known, 2)`, `(num_known,)` and `{source: (num_unknown, 2)}`. As many
            unknown as known images are drawn, the first of each source.
        class_names: Written at the classes; the integers if `None`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(networks) + 0.4, 6.6))
    axes = figure.subplots(
        2, len(networks), squeeze=False, gridspec_kw={"height_ratios": [3, 1]}
    )
    titles = style.shorten(networks, 40)
    for (upper, lower), title, parts in zip(
        axes.T, titles, networks.values(), strict=True
    ):
        known, labels, by_source = parts
        share = -(-len(known) // len(by_source))
        unknown = np.concatenate([rows[:share] for rows in by_source.values()])
        figure_parts.draw_features(upper, known, labels, unknown, class_names, size=6)
        upper.plot(0, 0, "+", color=style.UNKNOWN, markersize=14, markeredgewidth=1.6)
        upper.set_title(title)
        lengths = [np.linalg.norm(rows, axis=1) for rows in (known, unknown)]
        top = max(np.quantile(values, 0.999) for values in lengths) or 1.0
        bins = np.linspace(0, 1.02 * top, figure_parts.NUM_BINS + 1)
        figure_parts.draw_density(lower, *lengths, bins, style.UNKNOWN)  # type: ignore[call-arg]
        lower.set_xlabel("length of the feature vector")
    axes[1, 0].set_ylabel("share of images")
    sources = {source for _, _, by_source in networks.values() for source in by_source}
    (source,) = style.shorten(sources) if len(sources) == 1 else [None]
    shown = "unknown" if source is None else f"unknown: {source}"
    figure.legend(
        handles=figure_parts.density_handles(
            None, known="known (above: by class)", unknown=shown
        ),
        loc="outside upper right",
        ncols=2,
    )
    figure_parts.separate_names(figure, axes[0])
    return figure
