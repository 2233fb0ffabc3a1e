"""What renderings of test images do: known and unknown, changed alike."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from ood_keras import batches
from ood_keras.calibration import any_threshold
from ood_keras.conventions import accepts
from ood_keras.detectors.statistics import Smallest
from ood_keras.evaluation import common, renderings
from ood_keras.evaluation.scoring import Scorer
from ood_keras.metrics import RankedScores
from ood_keras.names import valid
from ood_keras.types import Images, Json

if TYPE_CHECKING:
    from ood_keras.detectors import Detector
    from ood_keras.inference.edge_predictor import EdgePredictor
    from ood_keras.inference.predictor import Predictor

Extent = Literal["none", "short", "full"]

EXTENTS: tuple[Extent, ...] = ("none", "short", "full")

UNTOUCHED = "untouched"

_PREFIX = "renderings/"

# Of each source; a share is then right to about two points.
NUM_IMAGES = {"short": 500, "full": 1000}

# Pixel values that are rendered at a time: 16 MB of floats.
_CHUNK_VALUES = 2**22


@dataclasses.dataclass(frozen=True)
class Applied:
    """A rendering that was applied, by name and title, and whether it is mild."""

    name: str
    title: str
    mild: bool


@dataclasses.dataclass(frozen=True)
class UnderRenderings:
    """The result of `measure`.

    Attributes:
        kind: "drawing" or "photo": whose renderings these are.
        steps: What was applied to known and unknown images alike, in order; the first
            is `UNTOUCHED`, which leaves them as they are.
        source: Name of the known images.
        labels: int `(num_known,)`.
        predictions: int `(num_steps, num_known)`, the known class with the largest
            logit.
        unknown_predictions: `{source: int (num_steps, num_unknown)}`, the same.
        known_scores: `{detector: ood_score (num_steps, num_known)}`.
        unknown_scores: `{detector: {source: ood_score (num_steps, num_unknown)}}`.
        pictures: `(num_steps, k, H, W, C)`, some known images in each rendering, or
            `None` where they were not kept.
    """

    kind: str
    steps: Sequence[Applied]
    source: str
    labels: np.ndarray
    predictions: np.ndarray
    unknown_predictions: dict[str, np.ndarray]
    known_scores: dict[str, np.ndarray]
    unknown_scores: dict[str, dict[str, np.ndarray]]
    pictures: np.ndarray | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What `scores.npz` keeps of it, by name; `restore` reads it."""
        arrays = {
            f"{_PREFIX}labels": self.labels.astype(np.int32),
            f"{_PREFIX}predictions": self.predictions.astype(np.int32),
        }
        for source, classes in self.unknown_predictions.items():
            arrays[f"{_PREFIX}predictions/{source}"] = classes.astype(np.int32)
        for detector, scores in self.known_scores.items():
            arrays[f"{_PREFIX}known/{detector}"] = scores
            for source, others in self.unknown_scores[detector].items():
                arrays[f"{_PREFIX}unknown/{source}/{detector}"] = others
        return arrays

    def at(self, thresholds: Mapping[str, any_threshold.AnyThreshold]) -> Json:
        """What `metrics.json` holds of it, plain JSON values, all shares in [0, 1].

        `{"kind", "known": {"source", "images"}, "detectors": {NAME: {"threshold",
        "target_acceptance", "steps": [{"name", "title", "mild", "known": {"accepted",
        "accuracy", "accepted_right"}, "unknown": {SOURCE: {"images", "rejected",
        "auroc"}}}], "summary": ...}}}`. The first step is the images untouched.
        "accuracy" counts all known images; "accepted_right" is the share of them that
        is accepted and gets its class. A summary has, of the mild steps, "accepted"
        and "accuracy" with "mean", "worst" and "worst_step", and per unknown source
        "auroc": "untouched", "mild" and "full_spectrum", the scores of all mild, or
        of all renderings and the untouched images taken together (Yang et al. 2023).

        Args:
            thresholds: `{detector: threshold}`, one threshold or one for each class.
        """
        return {
            "kind": self.kind,
            "known": {"source": self.source, "images": len(self.labels)},
            "detectors": {
                name: self._of_detector(name, thresholds[name])
                for name in self.known_scores
            },
        }

    def _of_detector(
        self, detector: str, threshold: any_threshold.AnyThreshold
    ) -> Json:
        known, unknown = self.known_scores[detector], self.unknown_scores[detector]
        accepted = accepts(known, any_threshold.limits(threshold, self.predictions))
        accepted_of = {
            source: accepts(
                scores,
                any_threshold.limits(threshold, self.unknown_predictions[source]),
            )
            for source, scores in unknown.items()
        }
        right = self.predictions == self.labels
        rows = [
            {
                **dataclasses.asdict(step),
                "known": {
                    "accepted": float(accepted[place].mean()),
                    "accuracy": float(right[place].mean()),
                    "accepted_right": float((accepted[place] & right[place]).mean()),
                },
                "unknown": {
                    source: {
                        "images": scores.shape[1],
                        "rejected": float(np.mean(~accepted_of[source][place])),
                        "auroc": _auroc(known[place], scores[place]),
                    }
                    for source, scores in unknown.items()
                },
            }
            for place, step in enumerate(self.steps)
        ]
        mild = [place for place, step in enumerate(self.steps) if step.mild]
        return {
            "threshold": any_threshold.numbers(threshold),
            "target_acceptance": threshold.target_acceptance,
            "steps": rows,
            "summary": {
                **{
                    share: _summarize([rows[place] for place in mild], share)
                    for share in ("accepted", "accuracy")
                },
                "auroc": {
                    source: {
                        "untouched": _auroc(known[0], scores[0]),
                        "mild": _auroc(known[[0, *mild]], scores[[0, *mild]]),
                        "full_spectrum": _auroc(known, scores),
                    }
                    for source, scores in unknown.items()
                },
            },
        }


def restore(
    metrics: Json, arrays: Mapping[str, np.ndarray], detectors: Sequence[str]
) -> UnderRenderings:
    """Returns what was measured, from what a report wrote down.

    Args:
        metrics: What `UnderRenderings.at` returned.
        arrays: The arrays of `scores.npz`, by the names in the file.
        detectors: Names of the detectors to take.

    Raises:
        KeyError: an array is missing.
    """
    rows = next(iter(metrics["detectors"].values()))["steps"]
    return UnderRenderings(
        kind=metrics["kind"],
        steps=[Applied(row["name"], row["title"], row["mild"]) for row in rows],
        source=metrics["known"]["source"],
        labels=arrays[f"{_PREFIX}labels"],
        predictions=arrays[f"{_PREFIX}predictions"],
        unknown_predictions={
            source: arrays[valid(f"{_PREFIX}predictions/{source}")]
            for source in rows[0]["unknown"]
        },
        known_scores={name: arrays[f"{_PREFIX}known/{name}"] for name in detectors},
        unknown_scores={
            name: {
                source: arrays[valid(f"{_PREFIX}unknown/{source}/{name}")]
                for source in rows[0]["unknown"]
            }
            for name in detectors
        },
    )


def measure(
    detectors: "Mapping[str, Detector]",
    *,
    known: tuple[str, Images],
    unknown: Mapping[str, Images],
    short: bool = True,
    kind: str | None = None,
    num_images: int | None = None,
    progress: bool = True,
) -> UnderRenderings:
    """Renders known and unknown test images in many ways and scores them.

    A good AUROC on test images as they are may say how they were scanned. Here the same
    change is made to known and unknown images, so what is left is what they show.

    Args:
        detectors: `{name: fitted detector}`, all of one network.
        known: `(source, data)`: the name of the known test images, and images in [0, 1]
            with labels `0..N-1`, as anything that `ood_keras.batches.iterate` takes.
        unknown: `{source: data}` of unknown test images.
        short: Only the strongest mild rendering of each sort, for a quick look; else
            every strength.
        kind: "drawing" or "photo"; default: see `renderings.kind_of`.
        num_images: How many images of each source to take, a fixed random choice;
            default: 500 for the short suite, 1,000 else.
        progress: Whether to show a progress bar where there is a terminal.

    Returns:
        An `UnderRenderings`.

    Raises:
        ValueError: there is no image, a label is out of range, or a score is NaN.

    Example:

    >>> found = evaluation.under_renderings.measure(
    ...     {"energy": detector}, known=("digits", (x, y)), unknown={"noise": x_noise}
    ... )
    >>> found.at({"energy": threshold})["detectors"]["energy"]["summary"]["accepted"]
    """
    common.check_sources(known, dict(unknown))
    for name, detector in detectors.items():
        common.check_fitted(detector, name)
    scorer, first = Scorer(detectors), next(iter(detectors))

    def score(batches, name):
        scored = scorer.score(batches, name)
        return scored.scores, scored.predictions_of[first]

    return _measure(
        score,
        known,
        unknown,
        num_classes=detectors[first].num_classes,
        short=short,
        kind=kind,
        num_images=num_images,
        progress=progress,
    )


def measure_exported(
    predictor: "Predictor | EdgePredictor",
    *,
    known: tuple[str, Images],
    unknown: Mapping[str, Images],
    short: bool = True,
    kind: str | None = None,
    num_images: int | None = None,
    progress: bool = True,
) -> UnderRenderings:
    """The same of an exported model: what its users will meet.

    Args:
        predictor: What `export.load` returns. Its detector is the only one.
        known: As for `measure`.
        unknown: As for `measure`.
        short: As for `measure`.
        kind: As for `measure`.
        num_images: As for `measure`.
        progress: As for `measure`.

    Returns:
        An `UnderRenderings` of the detector that the manifest names.

    Raises:
        ValueError: as for `measure`.
    """
    common.check_sources(known, dict(unknown))
    detector = predictor.manifest["detector"]["name"]

    def score(batches, name):
        answers = [predictor.predict(images) for images, _ in batches]
        scores = np.concatenate([answer["ood_score"] for answer in answers])
        probabilities = np.concatenate([answer["probabilities"] for answer in answers])
        return {detector: scores}, probabilities.argmax(axis=1)

    return _measure(
        score,
        known,
        unknown,
        num_classes=len(predictor.class_names),
        short=short,
        kind=kind,
        num_images=num_images,
        progress=progress,
    )


def _measure(score, known, unknown, *, num_classes, short, kind, num_images, progress):
    """`score(batches, name)` returns `({detector: scores}, predictions)`."""
    if num_images is None:
        num_images = NUM_IMAGES["short" if short else "full"]
    source, known_data = known
    images, labels = _take(known_data, num_images, source)
    common.check_labels(labels, num_classes, source)
    others = {name: _take(data, num_images, name)[0] for name, data in unknown.items()}
    if kind is None:
        kind = renderings.kind_of(images)
    channels = images.shape[-1]
    suite = renderings.suite(
        kind, short=short, colour=channels == 3, files=channels in (1, 3)
    )
    renders: dict[Applied, Callable[[np.ndarray], np.ndarray]] = {
        Applied(UNTOUCHED, UNTOUCHED, False): _leave,
        **{Applied(step.name, step.title, step.mild): step for step in suite},
    }
    scored, predictions = [], []
    predictions_unknown: dict[str, list[np.ndarray]] = {name: [] for name in others}
    scored_unknown: dict[str, list[dict[str, np.ndarray]]] = {
        name: [] for name in others
    }
    with _bar(len(renders), progress) as tell:
        for step, render in renders.items():
            scores, predicted = score(_walk(images, labels, render), source)
            scored.append(scores)
            predictions.append(predicted)
            for name, theirs in others.items():
                scores, predicted = score(_walk(theirs, None, render), name)
                scored_unknown[name].append(scores)
                predictions_unknown[name].append(predicted)
            tell(step.title)
    return UnderRenderings(
        kind=kind,
        steps=list(renders),
        source=source,
        labels=labels,
        predictions=np.stack(predictions),
        unknown_predictions={
            name: np.stack(theirs) for name, theirs in predictions_unknown.items()
        },
        known_scores={
            detector: np.stack([one[detector] for one in scored])
            for detector in scored[0]
        },
        unknown_scores={
            detector: {
                name: np.stack([one[detector] for one in theirs])
                for name, theirs in scored_unknown.items()
            }
            for detector in scored[0]
        },
        pictures=np.stack([render(images[:4]) for render in renders.values()]),
    )


def describe(measured: Json) -> list[str]:
    """Says in words what renderings do to a detector, a sentence each.

    Args:
        measured: What `UnderRenderings.at` returns of one detector.
    """
    accepted = measured["summary"]["accepted"]
    accuracy = measured["summary"]["accuracy"]
    target = measured["target_acceptance"]
    mild = [row for row in measured["steps"] if row["mild"]]
    said = [
        f"Under {len(mild)} mild renderings, {accepted['mean']:.1%} of the known "
        f"images are accepted on average and {accepted['worst']:.1%} in the worst "
        f"({accepted['worst_step']}); {accuracy['mean']:.1%} are classified right."
    ]
    if target is not None:
        short = [
            row
            for row in sorted(mild, key=lambda row: row["known"]["accepted"])
            # A share of a few hundred images is not exact to the point.
            if row["known"]["accepted"] < target - _TOLERANCE
        ]
        if short:
            listed = ", ".join(
                f"{row['title']} ({row['known']['accepted']:.0%})" for row in short[:6]
            )
            more = f" and {len(short) - 6} more" if len(short) > 6 else ""
            said.append(
                f"The threshold was chosen to accept {target:.0%}. It accepts fewer "
                f"under {len(short)} of them: {listed}{more}. Images that are scanned, "
                "resized or drawn otherwise than the calibration images will be "
                "rejected too often."
            )
    return said


_TOLERANCE = 0.02


def _summarize(rows: Sequence[Json], share: str) -> Json:
    worst = min(rows, key=lambda row: row["known"][share])
    return {
        "mean": float(np.mean([row["known"][share] for row in rows])),
        "worst": worst["known"][share],
        "worst_step": worst["title"],
    }


def _auroc(known, unknown):
    return RankedScores(known.ravel(), unknown.ravel()).measure("auroc")


def _take(data, num_images, source):
    """Some images of a data set, a fixed random choice, and their labels or `None`."""
    generator = np.random.default_rng(0)
    chosen, has_labels = Smallest(num_images), False
    for images, labels in batches.iterate(data):
        rows = {"images": images}
        if labels is not None:
            rows["labels"], has_labels = labels, True
        chosen.add(generator.random(len(images)), **rows)
    if not chosen.rows:
        raise ValueError(f"{source} has no images; give it at least one")
    return chosen.rows["images"], chosen.rows["labels"] if has_labels else None


def _leave(images):
    return images


def _walk(images, labels, render):
    size = max(1, min(256, _CHUNK_VALUES // max(1, int(np.prod(images.shape[1:])))))
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        yield render(images[rows]), None if labels is None else labels[rows]


@contextlib.contextmanager
def _bar(total, shown):
    from tqdm import tqdm

    with tqdm(total=total, unit="rendering", disable=None if shown else True) as bar:

        def tell(name):
            bar.set_postfix_str(name)
            bar.update()

        yield tell
