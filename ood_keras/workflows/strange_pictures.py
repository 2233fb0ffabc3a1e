"""Rejected test pictures for a report: what in them is strange, and what is nearest."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ood_keras import pipelines
from ood_keras.detectors import compiled
from ood_keras.inference import heat_map
from ood_keras.inference.nearest_known import NearestKnown
from ood_keras.names import shorten
from ood_keras.workflows.explanation import find_heat

if TYPE_CHECKING:
    from ood_keras import detectors, evaluation

# In a row, three images each: the picture, what is strange in it, the nearest one.
_MOST_IN_ROW = 2
_MOST_ROWS = 6
# A heat map takes about as many runs of the network.
_RUNS = 200
_MOST_KNOWN = 500
_BATCH_SIZE = 32


def explain(
    report: "evaluation.Report",
    detector: "detectors.Detector",
    known: pipelines.Split,
    tests: Mapping[str, pipelines.Split],
) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Takes some rejected pictures of each source, and says why they are.

    Heat maps take no more runs of the network than the test pictures did, or than one
    heat map needs, if that is more: where there are few pictures, only the first have
    one. The nearest known picture is the one whose features have the largest cosine.

    Args:
        report: What was measured, with `detector` as the selected one.
        detector: Fitted.
        known: Known pictures to compare with, validation ones.
        tests: `{title: split}`, the test pictures of "known" and of each source, in the
            order in which they were scored.

    Returns:
        `{title: (images, captions)}`, for `figures.pictures`; empty where no picture
        shows what the network takes.
    """
    if known.images.shape[-1] not in (1, 3) or not len(known):
        return {}
    near = known.take(min(len(known), _MOST_KNOWN))
    run = _compile(detector)
    nearest_known = NearestKnown(
        lambda batch: run(batch)["features"], near.images, _BATCH_SIZE
    )
    budget = max(1, sum(map(len, tests.values())) // _RUNS)
    selected = report.metrics["selected_detector"]
    found = {"known": report.known, **report.unknown}
    rows: dict[str, tuple[np.ndarray, list[str]]] = {}
    titles = dict(zip(tests, shorten(list(tests), 60), strict=True))
    # Of unknown pictures one wants to know it first.
    for name in sorted(tests, key=lambda name: name == "known")[:_MOST_ROWS]:
        scores = found[name].scores[selected]
        rejected = np.flatnonzero(~report.thresholds[selected].accepts(scores))
        if not len(rejected):
            continue
        # Neither the worst nor the nearest to the threshold.
        order = rejected[np.argsort(scores[rejected], kind="stable")]
        count = min(_MOST_IN_ROW, len(order))
        chosen = order[(2 * np.arange(count) + 1) * len(order) // (2 * count)]
        images, captions = [], []
        for row in chosen:
            image = tests[name].images[row] / np.float32(255)
            images.append(image)
            captions.append(f"score {scores[row]:.2f}")
            if budget:
                budget -= 1
                heat = find_heat(
                    lambda batch: run(batch)["ood_score"],
                    image,
                    batch_size=_BATCH_SIZE,
                )
                if heat is not None:
                    images.append(heat_map.overlay(image, heat))
                    captions.append("what is strange")
            nearest, _ = nearest_known.find(image)
            images.append(near.images[nearest] / np.float32(255))
            captions.append(_caption(near, nearest, report.class_names))
        title = f"{titles[name]}: {len(rejected):,} of {len(scores):,} rejected"
        rows[title] = np.stack([_in_colour(image) for image in images]), captions
    return rows


def _caption(split: pipelines.Split, row: int, class_names: Any) -> str:
    label = int(split.labels[row])
    name = shorten(class_names, 18)[label] if class_names else str(label)
    return f"nearest known:\n{name}"


def _compile(
    detector: "detectors.Detector",
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    # Not `score`, which remembers what it was given for the export.
    def call(images):
        outputs = detector.call(images)
        return {name: outputs[name] for name in ("ood_score", "features")}

    return functools.partial(compiled.run_in_parts, compiled.compile_function(call))


def _in_colour(image: np.ndarray) -> np.ndarray:
    return np.broadcast_to(image, (*image.shape[:2], 3))
