"""Parts that several figures share: axes, curves, densities, names."""

import numpy as np

from ood_keras import metrics
from ood_keras.conventions import accepts, percent
from ood_keras.evaluation import style

NUM_BINS = 80


def new_figure(num_rows, num_columns, panel_size, **kwargs):
    from matplotlib.figure import Figure

    width, height = panel_size
    # Room for titles and legend outside the panels.
    figure = Figure(figsize=(width * num_columns + 0.4, height * num_rows + 0.6))
    return figure, figure.subplots(num_rows, num_columns, squeeze=False, **kwargs)


def draw_roc(
    axes, known_scores, unknown_scores, *, color, smallest, dashed=False, label=None
):
    curve = metrics.roc_curve(known_scores, unknown_scores)
    unknown_accepted = curve.unknown_accepted
    if smallest is not None:
        unknown_accepted = np.maximum(unknown_accepted, smallest / 2)
    axes.plot(
        unknown_accepted,
        curve.known_accepted,
        color=color,
        linestyle="--" if dashed else "-",
        label=label,
    )


def set_roc_axes(axes, smallest):
    axes.grid(True)
    axes.set_ylim(-0.02, 1.02)
    if smallest is None:
        axes.set_xlim(-0.02, 1.02)
    else:
        axes.set_xscale("log")
        axes.set_xlim(smallest / 2, 1.2)
    set_percent_ticks(axes.xaxis, smallest is not None)
    set_percent_ticks(axes.yaxis, False)


def set_percent_ticks(axis, logarithmic):
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if logarithmic:
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))


def smallest_share(unknown_scores):
    return 1 / max(len(scores) for scores in unknown_scores.values())


def draw_density(axes, known, unknown, bins, color):
    for values, fill in ((known, style.KNOWN), (unknown, color)):
        if not len(values):
            continue
        counts = np.histogram(np.clip(values, bins[0], bins[-1]), bins)[0]
        axes.stairs(counts / len(values), bins, fill=True, color=fill, alpha=0.45)
        axes.stairs(counts / len(values), bins, color=fill, linewidth=0.8)
    axes.set_yscale("log")
    axes.set_ylim(0.5 / max(len(known), len(unknown)), 1.5)
    set_percent_ticks(axes.yaxis, True)
    axes.set_xlim(bins[0], bins[-1])
    axes.grid(True, axis="x")


def draw_threshold(axes, threshold):
    axes.axvline(threshold, color=style.THRESHOLD, linewidth=1.2, linestyle="--")


def write_accepted(axes, known, unknown, threshold):
    known_share, unknown_share = (
        percent(np.mean(accepts(scores, threshold)), ".2f")
        for scores in (known, unknown)
    )
    axes.set_title(
        f"accepted: {known_share} of known, {unknown_share} of unknown",
        fontsize=8,
        fontweight="normal",
        color=style.MUTED,
        loc="right",
    )


def density_handles(threshold, *, known="known", unknown="unknown (the row's colour)"):
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(color=style.KNOWN, alpha=0.6, label=known),
        Patch(color=style.UNKNOWN, alpha=0.4, label=unknown),
    ]
    if threshold is not None:
        handles.append(
            Line2D([], [], color=style.THRESHOLD, linestyle="--", label="threshold")
        )
    return handles


def score_bins(all_scores, threshold):
    """Common bins that cover the middle 99.8 % of each set and the threshold."""
    edges = [] if threshold is None or np.isinf(threshold) else [threshold]
    for scores in all_scores:
        finite = scores[np.isfinite(scores)]
        if len(finite):
            edges.extend(np.quantile(finite, (0.001, 0.999)))
    low, high = (min(edges), max(edges)) if edges else (0.0, 1.0)
    margin = 0.02 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, NUM_BINS + 1)


def draw_features(axes, known, labels, unknown, class_names, size):
    points = np.concatenate([known, unknown])
    colors = np.array(
        [style.class_color(label) for label in labels] + [style.UNKNOWN] * len(unknown)
    )
    # In random order, so that neither known nor unknown images cover the others.
    order = np.random.default_rng(0).permutation(len(points))
    shown = style.shorten(class_names, 18) if class_names else None
    axes.scatter(*points[order].T, s=size, color=colors[order], linewidths=0, alpha=0.6)
    for label in np.unique(labels):
        axes.annotate(
            shown[label] if shown else str(label),
            np.median(known[labels == label], axis=0),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8 if size > 4 else 6,
            fontweight="bold",
            bbox={
                "boxstyle": "round,pad=0.2",
                "facecolor": "white",
                "edgecolor": style.class_color(label),
                "alpha": 0.85,
            },
        )
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)


def separate_names(figure, all_axes):
    """Moves the names of classes up that would cover one another."""
    for name in (name for axes in all_axes for name in axes.texts):
        # Else the layout would make room for the moved ones, and move all once more.
        name.set_in_layout(False)
    figure.draw_without_rendering()
    for axes in all_axes:
        placed = []
        for name in sorted(axes.texts, key=lambda name: name.xy[1]):
            box = start = name.get_bbox_patch().get_window_extent()
            while covered := [other for other in placed if other.overlaps(box)]:
                box = box.translated(0, max(o.y1 for o in covered) - box.y0 + 1)
            placed.append(box)
            name.set_position((0, (box.y0 - start.y0) * 72 / figure.dpi))


def name_sources(sources, seen):
    """What figures call each source, `{source: text}`."""
    return {
        source: f"{text} (seen)" if source in seen else text
        for source, text in zip(sources, style.shorten(sources), strict=True)
    }
