"""What evaluations share: checks before and after, and the walk over data."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ood_keras import batches, metrics
from ood_keras.metrics.intervals import auroc_interval_of
from ood_keras.types import Batches, Images, Json

if TYPE_CHECKING:
    from ood_keras.detectors import Detector


def check_fitted(detector: "Detector", name: str) -> None:
    """Raises unless the detector is fitted."""
    if detector.network is None:
        raise RuntimeError(
            f"detector {name!r} has learnt nothing yet; call fit(model, data) first"
        )


def check_sources(known: tuple[str, Images], unknown: dict[str, Images]) -> None:
    """Raises unless `known` is `(source, data)` and `unknown` `{source: data}`."""
    if not (isinstance(known, tuple) and len(known) == 2 and isinstance(known[0], str)):
        raise ValueError(
            "`known` must be the pair (source, data), such as "
            f'("mnist", (images, labels)). Received: a {type(known).__name__}'
        )
    if not isinstance(unknown, dict) or not unknown:
        raise ValueError(
            "there are no unknown images to tell from the known ones: give `unknown` "
            f"as {{source: data}} with at least one source. Received: {unknown!r}"
        )
    if known[0] in unknown:
        raise ValueError(
            f"{known[0]!r} is both known and unknown; an image can be only one of "
            "them. Leave it out of `unknown`, or, where its classes differ, say so in "
            "the names"
        )


def check_labels(labels: np.ndarray | None, num_classes: int, source: str) -> None:
    """Raises unless every label is a known class."""
    if labels is None:
        raise ValueError(
            f"the known test images of {source!r} have no labels, and accuracy needs "
            "them: give (images, labels)"
        )
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        raise ValueError(
            f"known labels must lie in 0..{num_classes - 1}. Received: "
            f"{wrong.sum()} other labels in {source!r}, such as {labels[wrong][0]}. "
            "Unknown images belong into `unknown`"
        )


def measure(
    source: str,
    accuracy: float | None,
    known_scores: Mapping[str, np.ndarray],
    unknown_scores: Mapping[str, Mapping[str, np.ndarray]],
    *,
    seen: Collection[str],
    selected_detector: str,
    further_metrics: Collection[str] = (),
) -> Json:
    """Returns the content of `metrics.json`.

    In every row, `auroc_interval` is `[low, high]`, DeLong's interval of AUROC with
    95 % confidence, or `None` where a set has one image only.

    Args:
        source: Name of the known images.
        accuracy: On them, or `None` where nothing was classified.
        known_scores: `{detector: ood_score}` of them.
        unknown_scores: `{source: {detector: ood_score}}`.
        seen: Names of the unknown sources that training was shown.
        selected_detector: The one to deploy.
        further_metrics: Names of metrics beside the built-in ones.

    Raises:
        RuntimeError: the numbers contradict each other.
    """
    results = {
        "known": {"source": source, "accuracy": accuracy},
        "detectors": {
            name: {
                "unknown": {
                    unknown_source: {
                        "seen": unknown_source in seen,
                        **_measure_pair(scores, others[name], further_metrics),
                    }
                    for unknown_source, others in unknown_scores.items()
                }
            }
            for name, scores in known_scores.items()
        },
        "selected_detector": selected_detector,
    }
    check_consistent(results)
    return results


def _measure_pair(
    known_scores: np.ndarray,
    unknown_scores: np.ndarray,
    further_metrics: Collection[str],
) -> Json:
    """All metrics, and the 95 % interval of AUROC; `None` where a set is one image."""
    ranked = metrics.RankedScores(known_scores, unknown_scores)
    interval = None
    if min(ranked.num_known, ranked.num_unknown) > 1:
        interval = [*auroc_interval_of(ranked)[1:]]
    return {**ranked.evaluate(further_metrics), "auroc_interval": interval}


def check_consistent(results: Json) -> None:
    """Raises if the results hold numbers that no detector can have."""
    found = metrics.check_consistency(results)
    if found:
        raise RuntimeError(
            "the measured numbers contradict each other, so that none of them can be "
            "trusted; please report this with the scores: " + "; ".join(map(str, found))
        )


@contextlib.contextmanager
def progress_bar(
    num_data_sets: int, shown: bool
) -> Iterator[Callable[[Images, str], Batches]]:
    """Yields `walk(data, name)`, which goes over batches and shows how far it is."""
    from tqdm import tqdm

    # `None` means: only where there is a terminal.
    disable = None if shown else True
    with tqdm(total=num_data_sets, unit="data set", disable=disable) as bar:

        def walk(data, name):
            num_images = 0
            for images, labels in batches.iterate(data):
                yield images, labels
                num_images += len(images)
                bar.set_postfix_str(f"{name}: {num_images:,} images")
            bar.update()

        yield walk
