"""The pictures of an evaluation, from plain arrays.

Every function returns a `matplotlib.figure.Figure` and leaves pyplot's state, its
backend and the user's style alone. Save one with `figure.savefig(path)`. Throughout,
`ood_score` is higher for images that are more likely unknown, and an image is accepted
when `ood_score <= threshold`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ood_keras import metrics
from ood_keras.conventions import accepts, percent
from ood_keras.evaluation import style
from ood_keras.types import Json, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUM_BINS = 80
_LINES = ("-", "--", ":", "-.")
# Decreasing, so that curves which cover each other are all seen.
_WIDTHS = (3.4, 2.2, 1.0)
_CONFIDENCE = "confidence (largest probability of a known class)"


@style.styled
def roc(
    known_scores: np.ndarray,
    unknown_scores: Mapping[str, np.ndarray],
    *,
    seen: Collection[str] = (),
    log_x: bool = True,
) -> "Figure":
    """Draws one ROC curve per unknown source (Figures 5b and 6b of the paper).

    Accepting a known image is the positive event: the curve shows the share of known
    images accepted against the share of unknown images accepted, over all thresholds.

    Args:
        known_scores: `ood_score` of the known images, `(num_known,)`.
        unknown_scores: `{source: ood_score}` with arrays `(num_unknown,)`.
        seen: Names of the sources that training was exposed to; drawn dashed.
        log_x: Whether the horizontal axis is logarithmic, which is what tells good
            detectors apart; a curve that never leaves zero is drawn at its left edge.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, axes = _figure(1, 1, (7.6, 4.0))
    axes = axes[0, 0]
    smallest = _smallest_share(unknown_scores)
    shown = _named(unknown_scores, seen)
    for index, (source, scores) in enumerate(unknown_scores.items()):
        _draw_roc(
            axes,
            known_scores,
            scores,
            label=f"{shown[source]}: AUROC "
            f"{percent(metrics.auroc(known_scores, scores), '.2f')}",
            color=style.source_color(index),
            dashed=source in seen,
            smallest=smallest if log_x else None,
        )
    axes.axhline(0.95, color=style.MUTED, linewidth=0.8, linestyle=":")
    axes.set(
        title="ROC, one curve per unknown source",
        xlabel="share of unknown images accepted",
        ylabel="share of known images accepted",
    )
    _roc_axes(axes, smallest if log_x else None)
    figure.legend(loc="outside right upper")
    return figure


@style.styled
def density(
    known_scores: np.ndarray,
    unknown_scores: Mapping[str, np.ndarray],
    *,
    known_confidence: np.ndarray | None = None,
    unknown_confidence: Mapping[str, np.ndarray] | None = None,
    threshold: float | None = None,
    seen: Collection[str] = (),
) -> "Figure":
    """Draws the distribution of known against each unknown (Figures 5c and 6c).

    One row per unknown source. The vertical axis is logarithmic, so that the few images
    in the overlap can be seen. Scores far outside the rest are counted in the outermost
    bins.

    Args:
        known_scores: `ood_score` of the known images, `(num_known,)`.
        unknown_scores: `{source: ood_score}` with arrays `(num_unknown,)`.
        known_confidence: Largest probability of a known class, in [0, 1],
            `(num_known,)`; with `unknown_confidence` it adds the paper's own column.
        unknown_confidence: `{source: confidence}` with arrays `(num_unknown,)`.
        threshold: Draws the line `ood_score = threshold` and writes down the shares on
            its two sides.
        seen: Names of the sources that training was exposed to.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    with_confidence = known_confidence is not None and unknown_confidence is not None
    panel_size = (4.2, 1.3) if with_confidence else (6.4, 1.3)
    figure, grid = _figure(
        len(unknown_scores), 1 + with_confidence, panel_size, sharex="col"
    )
    bins = _score_bins([known_scores, *unknown_scores.values()], threshold)
    shown = _named(unknown_scores, seen)
    for row, (source, scores) in enumerate(unknown_scores.items()):
        color = style.source_color(row)
        axes = grid[row, 0]
        axes.set_title(shown[source])
        if with_confidence:
            _draw_density(
                axes,
                known_confidence,
                unknown_confidence[source],  # type: ignore[index]
                np.linspace(0, 1, _NUM_BINS + 1),
                color,
            )
        axes = grid[row, -1]
        _draw_density(axes, known_scores, scores, bins, color)
        if threshold is not None:
            _draw_threshold(axes, threshold)
            _note_accepted(axes, known_scores, scores, threshold)
    if with_confidence:
        grid[-1, 0].set_xlabel(_CONFIDENCE)
    grid[-1, -1].set_xlabel("ood_score (higher: more likely unknown)")
    figure.supylabel("share of images", color=style.MUTED, fontsize=9)
    figure.legend(
        handles=_density_handles(threshold), loc="outside upper right", ncols=3
    )
    return figure


@style.styled
def score_among(
    score: float | None,
    known_scores: Scores,
    unknown_scores: Scores = (),
    *,
    threshold: float,
) -> "Figure":
    """Draws where the score of one image lies among those of known images.

    Args:
        score: `ood_score` of the image; `None` draws the others only.
        known_scores: `ood_score` of known images, `(num_known,)`.
        unknown_scores: `ood_score` of unknown images, `(num_unknown,)`; may be empty.
        threshold: Draws the line `ood_score = threshold`: the image is accepted on its
            left.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.ticker import NullLocator

    figure, axes = _figure(1, 1, (6.4, 1.9))
    axes = axes[0, 0]
    known_scores, unknown_scores = np.asarray(known_scores), np.asarray(unknown_scores)
    drawn = [known_scores, unknown_scores]
    if score is not None:
        drawn.append(np.array([score]))
    bins = _score_bins(drawn, threshold)
    _draw_density(axes, known_scores, unknown_scores, bins, style.UNKNOWN)
    _draw_threshold(axes, threshold)
    for text, side, shift in (("accepted", "right", -5), ("rejected", "left", 5)):
        axes.annotate(
            text,
            (threshold, 1),
            (shift, -3),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha=side,
            va="top",
            fontsize=8,
            color=style.THRESHOLD,
        )
    axes.yaxis.set_minor_locator(NullLocator())
    handles = _density_handles(threshold, unknown="unknown")
    if not len(unknown_scores):
        del handles[1]
    if score is not None:
        place = np.clip(score, bins[0], bins[-1])
        line = axes.axvline(
            place, color=style.SOURCES[0], linewidth=2.4, label="this image", zorder=3
        )
        axes.plot(
            place,
            0,
            marker="^",
            markersize=9,
            color=style.SOURCES[0],
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            zorder=3,
        )
        handles.append(line)
    axes.set(xlabel="ood_score (higher: more likely unknown)", ylabel="share of images")
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


@style.styled
def perturbed_density(
    known_scores: Mapping[str, np.ndarray],
    unknown_scores: np.ndarray,
    *,
    threshold: float,
    known_confidence: Mapping[str, np.ndarray] | None = None,
    unknown_confidence: np.ndarray | None = None,
) -> "Figure":
    """Draws known images under perturbations against unknown ones (Figure 3).

    One row per perturbation.

    Args:
        known_scores: `{perturbation: ood_score}` with arrays `(num_known,)`.
        unknown_scores: `ood_score` of unknown images, `(num_unknown,)`.
        threshold: Draws the line `ood_score = threshold`.
        known_confidence: `{perturbation: confidence}` with the largest probability of a
            known class, in [0, 1], `(num_known,)`; with `unknown_confidence` it adds
            the paper's own column.
        unknown_confidence: Of the unknown images, `(num_unknown,)`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    with_confidence = known_confidence is not None and unknown_confidence is not None
    panel_size = (4.2, 1.3) if with_confidence else (6.4, 1.3)
    figure, axes = _figure(
        len(known_scores), 1 + with_confidence, panel_size, sharex="col"
    )
    bins = _score_bins([unknown_scores, *known_scores.values()], threshold)
    titles = style.shown(known_scores)
    for panels, title, (name, scores) in zip(
        axes, titles, known_scores.items(), strict=True
    ):
        panels[0].set_title(title)
        if with_confidence:
            _draw_density(
                panels[0],
                known_confidence[name],  # type: ignore[index]
                unknown_confidence,
                np.linspace(0, 1, _NUM_BINS + 1),
                style.UNKNOWN,
            )
        _draw_density(panels[-1], scores, unknown_scores, bins, style.UNKNOWN)
        _draw_threshold(panels[-1], threshold)
        _note_accepted(panels[-1], scores, unknown_scores, threshold)
    if with_confidence:
        axes[-1, 0].set_xlabel(_CONFIDENCE)
    axes[-1, -1].set_xlabel("ood_score (higher: more likely unknown)")
    figure.supylabel("share of images", color=style.MUTED, fontsize=9)
    handles = _density_handles(threshold, unknown="unknown, as they are")
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure


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


@style.styled
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
    figure, axes = _figure(1, 1, (6.4, 5.6))
    share = -(-len(known_features) // len(unknown_features))
    _draw_features(
        axes[0, 0],
        project(known_features),
        known_labels,
        project(np.concatenate([rows[:share] for rows in unknown_features.values()])),
        class_names,
        size=6,
    )
    axes[0, 0].set_title(f"Known (by class) and unknown (black): {what}")
    _part_names(figure, axes[0])
    return figure


@style.styled
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
    titles = style.shown(networks, 40)
    for (upper, lower), title, parts in zip(
        axes.T, titles, networks.values(), strict=True
    ):
        known, labels, by_source = parts
        share = -(-len(known) // len(by_source))
        unknown = np.concatenate([rows[:share] for rows in by_source.values()])
        _draw_features(upper, known, labels, unknown, class_names, size=6)
        upper.plot(0, 0, "+", color=style.UNKNOWN, markersize=14, markeredgewidth=1.6)
        upper.set_title(title)
        lengths = [np.linalg.norm(rows, axis=1) for rows in (known, unknown)]
        top = max(np.quantile(values, 0.999) for values in lengths) or 1.0
        bins = np.linspace(0, 1.02 * top, _NUM_BINS + 1)
        _draw_density(lower, *lengths, bins, style.UNKNOWN)  # type: ignore[call-arg]
        lower.set_xlabel("length of the feature vector")
    axes[1, 0].set_ylabel("share of images")
    sources = {source for _, _, by_source in networks.values() for source in by_source}
    (source,) = style.shown(sources) if len(sources) == 1 else [None]
    shown = "unknown" if source is None else f"unknown: {source}"
    figure.legend(
        handles=_density_handles(None, known="known (above: by class)", unknown=shown),
        loc="outside upper right",
        ncols=2,
    )
    _part_names(figure, axes[0])
    return figure


@style.styled
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
    figure, axes = _figure(len(unknown_scores), 3, (3.3, 2.1))
    bins = _score_bins([known_scores, *unknown_scores.values()], threshold)
    smallest = _smallest_share(unknown_scores)
    shown = _named(unknown_scores, seen)
    for row, (source, scores) in enumerate(unknown_scores.items()):
        color = style.source_color(row)
        left, middle, right = axes[row]
        left.sharex(axes[0, 0])
        left.sharey(axes[0, 0])
        _draw_features(
            left,
            project(known_features),
            known_labels,
            project(unknown_features[source]),
            class_names,
            size=3,
        )
        left.set_title(shown[source])
        _draw_roc(middle, known_scores, scores, color=color, smallest=smallest)
        _roc_axes(middle, smallest)
        auroc = percent(metrics.auroc(known_scores, scores), ".2f")
        middle.set_title(f"AUROC {auroc}")
        middle.set_ylabel("known accepted")
        _draw_density(right, known_scores, scores, bins, color)
        right.set_ylabel("share of images")
        if threshold is not None:
            _draw_threshold(right, threshold)
    axes[-1, 0].set_xlabel(style.literal(what or drawn))
    axes[-1, 1].set_xlabel("unknown accepted")
    axes[-1, 2].set_xlabel("ood_score")
    figure.legend(
        handles=_density_handles(threshold), loc="outside upper right", ncols=3
    )
    _part_names(figure, axes[:, 0])
    return figure


@style.styled
def pictures(rows: Mapping[str, tuple[np.ndarray, Sequence[str]]]) -> "Figure":
    """Draws rows of images, each with a title, and a caption under each image.

    Args:
        rows: `{row title: (images, captions)}`: images `(n, height, width, channels)`
            in [0, 1] with one or three channels, and one string each. A row without
            images says "none".

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    num_columns = max(5, *(len(images) for images, _ in rows.values()))
    # In inches, and by hand, since every image is as large as every other.
    size, gap, title_height, line_height = 0.94, 0.06, 0.36, 0.12
    row_heights = [
        title_height
        + (size if len(images) else 0)
        + line_height * max((text.count("\n") + 1 for text in captions), default=0)
        for images, captions in rows.values()
    ]
    width, height = num_columns * (size + gap) + gap, sum(row_heights) + gap
    figure = Figure(figsize=(width, height), layout="none")  # type: ignore[arg-type]

    def write(left, bottom, text, **kwargs):
        text = style.literal(text)
        figure.text(left / width, bottom / height, text, **kwargs)

    bottom = height
    for (title, (images, captions)), row_height in zip(
        rows.items(), row_heights, strict=True
    ):
        top, bottom = bottom - title_height, bottom - row_height
        title = title if len(images) else f"{title}: none"
        write(gap, top + gap, title, fontsize=8.5, fontweight="bold")
        for column, (image, caption) in enumerate(zip(images, captions, strict=True)):
            left = gap + column * (size + gap)
            place = left / width, (top - size) / height, size / width, size / height
            axes = figure.add_axes(place)
            axes.set_axis_off()
            image = np.clip(image, 0, 1)
            if image.shape[-1] == 1:
                image = image[..., 0]
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            below = {"ha": "center", "va": "top", "fontsize": 6.5}
            write(left + size / 2, top - size - gap / 2, caption, **below)
    return figure


@style.styled
def robustness(networks: Mapping[str, Json]) -> "Figure":
    """Draws what perturbations of known images do: one column for each.

    From above: the shares of known images that are classified correctly, rejected, and
    accepted with a wrong class; AUROC of the perturbed known images against the unknown
    ones, the mean over the sources that training was not shown. The first network is
    drawn solid, others dashed.

    Args:
        networks: `{title: metrics}` with `Robustness.metrics`, or what
            `robustness.json` holds, with "seen"; the same perturbations in all of them.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    rows = {
        "classified correctly": lambda point, _: point["known"]["accuracy"],
        "rejected": lambda point, _: point["known"]["rejected"],
        "accepted, wrong class": lambda point, _: point["known"]["accepted_wrong"],
        "AUROC": mean_auroc,
    }
    first = next(iter(next(iter(networks.values()))["detectors"].values()))
    names = list(first["perturbations"])
    figure, axes = _figure(4, len(names), (2.4, 1.75), sharex="col", sharey="row")
    for line, title, network in zip(
        _LINES, style.shown(networks), networks.values(), strict=False
    ):
        seen = network.get("seen", ())
        shown = style.shown(network["detectors"])
        for index, (detector, measured) in enumerate(
            zip(shown, network["detectors"].values(), strict=True)
        ):
            for panels, name in zip(axes.T, names, strict=True):
                points = measured["perturbations"][name]
                strengths = [point["strength"] for point in points]
                for row, (panel, value) in enumerate(
                    zip(panels, rows.values(), strict=True)
                ):
                    # The class is the network's answer, whatever detector follows it.
                    if row == 0 and index:
                        continue
                    color = style.KNOWN if row == 0 else style.source_color(index)
                    label = title if row == 0 else f"{detector}, {title}"
                    values = [value(point, seen) for point in points]
                    panel.plot(
                        strengths,
                        values,
                        line,
                        color=color,
                        marker=".",
                        linewidth=_WIDTHS[index % len(_WIDTHS)] if row else None,
                        label=label if len(networks) > 1 or row else "network",
                    )
    for panels, name in zip(axes.T, names, strict=True):
        panels[0].set_title(style.literal(style.title(name)))
        for panel in panels:
            panel.grid(True)
            _percent_ticks(panel.yaxis, False)
    for panels, label in zip(axes, rows, strict=True):
        panels[0].set_ylabel(label)
        # A share that is small everywhere is drawn larger.
        top = 1.0 if label != "accepted, wrong class" else panels[0].get_ylim()[1]
        panels[0].set_ylim(-0.03 * max(top, 0.05), 1.03 * max(top, 0.05))
    for panel in axes[:2, -1]:
        panel.legend(loc="upper left", bbox_to_anchor=(1.02, 1.05))
    figure.supxlabel(
        "strength, where the pixel range is 1", color=style.MUTED, fontsize=9
    )
    return figure


def mean_auroc(point: Json, seen: Collection[str] = ()) -> float:
    """AUROC of one perturbation at one strength, the mean over unknown sources.

    Those that training was shown are left out, unless there is no other.
    """
    rows = point["unknown"]
    unseen = {source: row for source, row in rows.items() if source not in seen}
    return float(np.mean([row["auroc"] for row in (unseen or rows).values()]))


@style.styled
def training_curve(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str
) -> "Figure":
    """Draws metrics on validation images against the epochs.

    Args:
        curves: `{label: (epochs, values)}`, shares in [0, 1].
        title: What was trained.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, axes = _figure(1, 1, (6.4, 3.4))
    axes = axes[0, 0]
    for index, (label, (epochs, values)) in enumerate(
        zip(style.shown(curves, 40), curves.values(), strict=True)
    ):
        color = style.source_color(index)
        # A curve along the axis is not cut in half.
        axes.plot(epochs, values, color=color, label=label, clip_on=False, zorder=3)
    (title,) = style.shown([title], 60)
    axes.set(title=title, xlabel="epoch", ylabel="on validation images")
    # Down to the decade of the smallest share above 0; 0, the goal, is the axis below.
    positive = [v for _, values in curves.values() for v in values if v > 0]
    decade = 10.0 ** np.floor(np.log10(min(positive, default=1.0)))
    axes.set_yscale("symlog", linthresh=decade, linscale=0.5)
    axes.set_ylim(bottom=0)
    axes.grid(True)
    _percent_ticks(axes.yaxis, False)
    axes.legend()
    return figure


def _figure(num_rows, num_columns, panel_size, **kwargs):
    from matplotlib.figure import Figure

    width, height = panel_size
    # Room for titles and legend outside the panels.
    figure = Figure(figsize=(width * num_columns + 0.4, height * num_rows + 0.6))
    return figure, figure.subplots(num_rows, num_columns, squeeze=False, **kwargs)


def _draw_roc(
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


def _roc_axes(axes, smallest):
    axes.grid(True)
    axes.set_ylim(-0.02, 1.02)
    if smallest is None:
        axes.set_xlim(-0.02, 1.02)
    else:
        axes.set_xscale("log")
        axes.set_xlim(smallest / 2, 1.2)
    _percent_ticks(axes.xaxis, smallest is not None)
    _percent_ticks(axes.yaxis, False)


def _percent_ticks(axis, logarithmic):
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if logarithmic:
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))


def _smallest_share(unknown_scores):
    return 1 / max(len(scores) for scores in unknown_scores.values())


def _draw_density(axes, known, unknown, bins, color):
    for values, fill in ((known, style.KNOWN), (unknown, color)):
        if not len(values):
            continue
        counts = np.histogram(np.clip(values, bins[0], bins[-1]), bins)[0]
        axes.stairs(counts / len(values), bins, fill=True, color=fill, alpha=0.45)
        axes.stairs(counts / len(values), bins, color=fill, linewidth=0.8)
    axes.set_yscale("log")
    axes.set_ylim(0.5 / max(len(known), len(unknown)), 1.5)
    _percent_ticks(axes.yaxis, True)
    axes.set_xlim(bins[0], bins[-1])
    axes.grid(True, axis="x")


def _draw_threshold(axes, threshold):
    axes.axvline(threshold, color=style.THRESHOLD, linewidth=1.2, linestyle="--")


def _note_accepted(axes, known, unknown, threshold):
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


def _density_handles(threshold, *, known="known", unknown="unknown (the row's colour)"):
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


def _score_bins(all_scores, threshold):
    """Common bins that cover the middle 99.8 % of each set and the threshold."""
    edges = [] if threshold is None or np.isinf(threshold) else [threshold]
    for scores in all_scores:
        finite = scores[np.isfinite(scores)]
        if len(finite):
            edges.extend(np.quantile(finite, (0.001, 0.999)))
    low, high = (min(edges), max(edges)) if edges else (0.0, 1.0)
    margin = 0.02 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, _NUM_BINS + 1)


def _draw_features(axes, known, labels, unknown, class_names, size):
    points = np.concatenate([known, unknown])
    colors = np.array(
        [style.class_color(label) for label in labels] + [style.UNKNOWN] * len(unknown)
    )
    # In random order, so that neither known nor unknown images cover the others.
    order = np.random.default_rng(0).permutation(len(points))
    shown = style.shown(class_names, 18) if class_names else None
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


def _part_names(figure, all_axes):
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


def _named(sources, seen):
    """What figures call each source, `{source: text}`."""
    return {
        source: f"{text} (seen)" if source in seen else text
        for source, text in zip(sources, style.shown(sources), strict=True)
    }
