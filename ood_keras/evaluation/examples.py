"""The few images that show what an evaluation got wrong, kept with its results.

A run's weights and data are not committed; what its pictures need is, in a file small
enough to be: the worst mistakes, and a random choice of features and confidences.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ood_keras import files, npz
from ood_keras.conventions import accepts, percent
from ood_keras.evaluation import figures
from ood_keras.names import shorten, valid
from ood_keras.types import Path

if TYPE_CHECKING:
    from ood_keras import evaluation

_NUM_SAMPLED = 1000


def record_examples(
    report: "evaluation.Report", path: Path, detector: str | None = None
) -> None:
    """Writes what the pictures of a report need beside `scores.npz`.

    Args:
        report: A `Report`.
        path: Receives the arrays that `load_examples` reads, about 100 KB for eight
            data sets of 28 x 28 pixels.
        detector: Name of the detector whose mistakes and threshold to write; `None`
            stands for the selected one.

    Raises:
        KeyError: the report has no such detector.
        OSError: the file cannot be written.

    Example:

    >>> evaluation.record_examples(report, "results/mnist/examples.npz")
    """
    project, plane = figures.plane(report.known.sample["features"])
    detector = detector or report.metrics["selected_detector"]
    threshold = report.thresholds[detector].value
    arrays = {"plane": np.array(plane), "threshold": np.array(threshold)}
    if report.class_names:
        arrays["class_names"] = np.array(report.class_names)
    sets = {"known": report.known}
    sets |= {f"unknown/{source}": data for source, data in report.unknown.items()}
    for name, worst in worst_mistakes(report, detector).items():
        sample = sets[name].sample
        index = sample["index"][:_NUM_SAMPLED]
        arrays[f"{name}/features"] = project(sample["features"][:_NUM_SAMPLED]).astype(
            np.float16
        )
        arrays[f"{name}/confidence"] = sets[name].confidence[index].astype(np.float16)
        if name == "known":
            arrays["known/feature_labels"] = report.known.labels[index].astype(np.int16)
        images = np.clip(worst.pop("images"), 0, 1)
        arrays[f"{name}/images"] = np.rint(255 * images).astype(np.uint8)
        arrays |= {f"{name}/{key}": np.asarray(value) for key, value in worst.items()}
    with files.atomic_file(path) as temporary:
        kept = {valid(key): value for key, value in arrays.items()}
        files.write_arrays(temporary, kept, compressed=True)


def load_examples(path: Path) -> dict[str, Any]:
    """Returns what `record_examples` wrote.

    Args:
        path: The file.

    Returns:
        `{"plane", "threshold", "class_names", "known", "unknown": {SOURCE}}`: what the
        plane of the features is, the threshold (accepted at or below), the names of the
        classes or `None`; and for each data set a dict with `features` `(k, 2)`,
        `confidence` `(k,)`, for known images `feature_labels` `(k,)`, and the worst
        mistakes as `worst_mistakes` gives them.
    """
    what = "the examples of an evaluation"
    arrays = npz.read(path, what, required=("plane", "threshold"))
    loaded = {
        "plane": arrays.pop("plane").item(),
        "threshold": arrays.pop("threshold").item(),
        "class_names": arrays.pop("class_names", np.array([])).tolist() or None,
        "known": {},
        "unknown": {},
    }
    for key, array in arrays.items():
        name, _, field = key.rpartition("/")
        role, _, source = name.partition("/")
        place = loaded[role].setdefault(source, {}) if source else loaded[role]
        place[field] = array / 255 if field == "images" else array
    return loaded


def worst_mistakes(
    report: "evaluation.Report", detector: str
) -> dict[str, dict[str, Any]]:
    """Returns the images of each data set that are furthest on the wrong side.

    Args:
        report: A `Report`.
        detector: Name of the detector whose mistakes to show.

    Returns:
        `{"known": set, "unknown/SOURCE": set}`; each set is a dict with `images`
        `(n, height, width, channels)` in [0, 1], the worst first, their `scores` and
        `predictions` `(n,)`, the `labels` of known ones, and of the whole data set
        `accepted`, the share at or below the threshold, and `total`.
    """
    sets: dict[str, tuple[str | None, Any]] = {"known": (None, report.known)}
    sets |= {f"unknown/{name}": (name, data) for name, data in report.unknown.items()}
    mistakes = {}
    for name, (source, data) in sets.items():
        index = data.examples[detector]["index"]
        mistakes[name] = {
            "images": data.examples[detector]["images"],
            "scores": data.scores[detector][index],
            "predictions": data.predictions[index].astype(np.int32),
            "accepted": report.accepted(source, detector),
            "total": len(data.predictions),
        }
        if source is None:
            mistakes[name]["labels"] = data.labels[index].astype(np.int32)
    return mistakes


def mistake_rows(
    mistakes: Mapping[str, Mapping[str, Any]],
    threshold: float,
    class_names: Sequence[str] | None = None,
) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Returns the images on the wrong side of a threshold, for `figures.pictures`.

    Args:
        mistakes: `{"known": set, "unknown/SOURCE": set}`, as `worst_mistakes` gives it.
        threshold: An image is accepted if its score is at most this.
        class_names: Names of the known classes; the integers if `None`.

    Returns:
        `{title: (images, captions)}`.
    """

    # As much as there is room for under an image.
    short = shorten(class_names, 18) if class_names else None
    titles = dict(zip(mistakes, shorten(mistakes, 60), strict=True))

    def name(label):
        return short[label] if short else str(label)

    rows = {}
    for key, data in mistakes.items():
        accepted = accepts(data["scores"], threshold)
        share, total = float(data["accepted"]), int(data["total"])
        if key == "known":
            wrong = ~accepted
            title = f"known: {percent(1 - share, '.2f')} of {total:,} images rejected"
            true = [f"{name(label)}\n" for label in data["labels"]]
        else:
            wrong = accepted
            source = titles[key].removeprefix("unknown/")
            title = f"{source}: {percent(share, '.2f')} of {total:,} images accepted"
            true = [""] * len(accepted)
        captions = [
            f"{true[row]}read as {name(data['predictions'][row])}\n"
            f"score {data['scores'][row]:.2f}"
            for row in np.flatnonzero(wrong)
        ]
        title += ", worst first" if captions else ""
        rows[title] = data["images"][wrong], captions
    return rows
