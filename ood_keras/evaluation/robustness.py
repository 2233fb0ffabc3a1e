"""What noise and adversarial changes of known images do (section 3.4 of the paper)."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from ood_keras import files
from ood_keras.detectors import perturbation
from ood_keras.evaluation import common, figures, style
from ood_keras.evaluation.scoring import Scorer
from ood_keras.metrics import evaluate_scores
from ood_keras.names import shorten
from ood_keras.types import Images, Json, Path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ood_keras.calibration import Threshold
    from ood_keras.detectors import Detector, Network

_EPSILONS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)

# What `evaluate` tries by default: strengths in units of the pixel range.
PERTURBATIONS: dict[str, tuple[float, ...]] = {
    "white_noise": (0.1, 0.25, 0.5, 0.75, 1.0),
    "gaussian_noise": (0.1, 0.25, 0.5, 0.75, 1.0),
    "fgsm": _EPSILONS,
    "pgd": _EPSILONS,
}
# What the paper's Figures 2 and 3 show, and PGD beside FGSM.
_PICTURED = {"gaussian_noise": 1.0, "fgsm": 0.1, "pgd": 0.1}


@dataclasses.dataclass(frozen=True)
class Robustness:
    """The result of `robustness.evaluate`.

    Attributes:
        metrics: The content of `robustness.json`: `{"known": {"source", "images"},
            "detectors": {NAME: {"threshold", "unknown_rejected": {SOURCE: share},
            "perturbations": {PERTURBATION: [{"strength", "known": {"accuracy",
            "rejected", "accepted_wrong"}, "unknown": {SOURCE: metrics}}]}}}}`,
            fractions. The first strength is 0, the images as they are. `accuracy`
            counts all known images, rejected or not; `accepted_wrong` is the share that
            is accepted and misclassified; `unknown` ranks the perturbed known images
            against the unknown ones as they are, with the metrics of
            `metrics.evaluate_scores`.
        known_scores: `{PERTURBATION: {strength: ood_score (num_known,)}}` of the first
            detector.
        unknown_scores: `{SOURCE: ood_score (num_unknown,)}` of the first detector.
        known_confidence: `{PERTURBATION: {strength: (num_known,)}}`, the largest
            probability of a known class.
        unknown_confidence: `{SOURCE: (num_unknown,)}`, the same.
        pictures: `{row title: (images, captions)}`, the first known image at all
            strengths with the first detector's decision, for `figures.pictures`.
    """

    metrics: Json
    known_scores: dict[str, dict[float, np.ndarray]]
    unknown_scores: dict[str, np.ndarray]
    known_confidence: dict[str, dict[float, np.ndarray]]
    unknown_confidence: dict[str, np.ndarray]
    pictures: dict[str, tuple[np.ndarray, list[str]]]

    def figures(self) -> "dict[str, Figure]":
        """`{name: matplotlib Figure}`."""
        measured = next(iter(self.metrics["detectors"].values()))
        return {
            "robustness": figures.robustness({"network": self.metrics}),
            "robustness_density": figures.perturbed_density(
                _select_pictured(self.known_scores),
                np.concatenate(list(self.unknown_scores.values())),
                threshold=measured["threshold"],
                known_confidence=_select_pictured(self.known_confidence),
                unknown_confidence=np.concatenate(
                    list(self.unknown_confidence.values())
                ),
            ),
            "robustness_inputs": figures.pictures(self.pictures),
        }

    def save(self, run_dir: Path) -> None:
        """Writes `robustness.json`, and its figures into `figures/`.

        Raises:
            OSError: the folder cannot be written.
        """
        run_dir = pathlib.Path(run_dir)
        for name, figure in self.figures().items():
            with files.atomic_file(run_dir / "figures" / f"{name}.png") as path:
                figure.savefig(path)
        files.write_json(run_dir / "robustness.json", self.metrics)


def evaluate(
    detectors: "Mapping[str, Detector]",
    thresholds: "Mapping[str, Threshold]",
    *,
    known: tuple[str, Images],
    unknown: dict[str, Images],
    perturbations: Mapping[str, Sequence[float]] | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Robustness:
    """Perturbs known test images with growing strength and measures the decisions.

    Use it to see whether a model rejects the images that it would misclassify. Unknown
    images stay as they are. The attacks know the classifier and make it err; they do
    not aim at the detector, and an attacker who does may do more damage than is shown
    here.

    Args:
        detectors: `{name: fitted detector}`, all fitted on one model, the classifier.
        thresholds: `{name: calibration.Threshold}` to deploy, from images as they are.
        known: `(source, data)`: the name of the known test images, and images in [0, 1]
            with labels `0..N-1`, as anything that `ood_keras.batches.iterate` can walk
            over several times.
        unknown: `{source: data}` of unknown test images.
        perturbations: `{name: strengths}`, some of `PERTURBATIONS`, or with strengths
            of your own: positive, in units of the pixel range.
        class_names: Names of the known classes, for the pictures.
        seed: Of the noise; the same noise is scaled to every strength.
        progress: Whether to show a progress bar where there is a terminal.

    Returns:
        A `Robustness`.

    Raises:
        ValueError: there is no detector, one has no threshold, or they were fitted on
            several models; a data set is empty; known labels are missing or out of
            range; an unknown perturbation, or a strength that is not positive.
        RuntimeError: a detector is not fitted, or an attack is asked for and Keras does
            not run on TensorFlow.

    Example:

    >>> result = evaluation.robustness.evaluate(
    ...     {"energy": detector},
    ...     {"energy": threshold},
    ...     known=("mnist", (x, y)),
    ...     unknown={"kmnist": x_unknown},
    ... )
    >>> result.save("runs/mnist")
    """
    _check_detectors(detectors, thresholds)
    common.check_sources(known, unknown)
    perturbations = PERTURBATIONS if perturbations is None else perturbations
    _check_perturbations(perturbations)
    source, known_data = known
    first, detector = next(iter(detectors.items()))
    changes = _changes(detector, perturbations)
    scorer = Scorer(detectors)
    steps = [(name, s) for name, strengths in perturbations.items() for s in strengths]
    first_images: dict[tuple[str, float], np.ndarray] = {}

    def change(walk, name, strength):
        generator = np.random.default_rng(seed)
        for images, labels in walk(known_data, f"{source}, {name} {strength:g}"):
            common.check_labels(labels, detector.num_classes, source)
            moved = changes[name](images, labels, strength, generator)
            if len(moved):
                first_images.setdefault((name, strength), moved[:1])
            yield moved, labels

    with common.progress_bar(1 + len(steps) + len(unknown), progress) as walk:
        unknown_scored = {
            name: scorer.score(walk(data, name), name, detector=first)
            for name, data in unknown.items()
        }
        scored = {
            step: scorer.score(change(walk, *step), source, detector=first)
            for step in [("none", 0.0), *steps]
        }
    unknown_scores = {name: one.scores for name, one in unknown_scored.items()}
    if class_names:
        class_names = shorten(class_names, 18)
    by_strength, pictures = {}, {}
    for name, strengths in perturbations.items():
        row = {0.0: scored["none", 0.0]}
        row |= {float(strength): scored[name, strength] for strength in strengths}
        by_strength[name] = row
        images = [first_images["none", 0.0]]
        images += [first_images[name, strength] for strength in strengths]
        captions = [
            _caption(s, one, first, thresholds[first], class_names)
            for s, one in row.items()
        ]
        pictures[style.title(name)] = np.concatenate(images), captions
    metrics = {
        "known": {"source": source, "images": len(scored["none", 0.0].labels)},
        "detectors": {
            name: {
                "threshold": threshold.value,
                "unknown_rejected": {
                    unknown_source: float(np.mean(~threshold.accepts(scores[name])))
                    for unknown_source, scores in unknown_scores.items()
                },
                "perturbations": {
                    perturbed: [
                        _point(strength, one, name, threshold, unknown_scores)
                        for strength, one in row.items()
                    ]
                    for perturbed, row in by_strength.items()
                },
            }
            for name, threshold in ((name, thresholds[name]) for name in detectors)
        },
    }
    common.check_consistent(metrics)

    def of_known(kept):
        return {
            name: {strength: kept(one) for strength, one in row.items()}
            for name, row in by_strength.items()
        }

    return Robustness(
        metrics,
        known_scores=of_known(lambda one: one.scores[first]),
        unknown_scores={name: scores[first] for name, scores in unknown_scores.items()},
        known_confidence=of_known(lambda one: one.confidence),
        unknown_confidence={
            name: one.confidence for name, one in unknown_scored.items()
        },
        pictures=pictures,
    )


def white_noise(
    images: np.ndarray, strength: float, seed: int | np.random.Generator = 0
) -> np.ndarray:
    """Adds noise that is uniform in [-strength, strength], and clips to [0, 1].

    Args:
        images: Float32 `(batch, height, width, channels)` in [0, 1].
        strength: Half the width, in units of the pixel range.
        seed: An integer, or a `numpy.random.Generator` to draw from.
    """
    noise = np.random.default_rng(seed).random(images.shape, np.float32)
    return np.clip(images + np.float32(strength) * (2 * noise - 1), 0, 1)


def gaussian_noise(
    images: np.ndarray, strength: float, seed: int | np.random.Generator = 0
) -> np.ndarray:
    """Adds normal noise of standard deviation `strength`, and clips to [0, 1].

    Args:
        images: Float32 `(batch, height, width, channels)` in [0, 1].
        strength: The standard deviation, in units of the pixel range.
        seed: An integer, or a `numpy.random.Generator` to draw from.
    """
    noise = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
    return np.clip(images + np.float32(strength) * noise, 0, 1)


class Attack:
    """Moves images so that a classifier errs, within a distance per pixel.

    Each step follows the sign of the gradient of the cross-entropy over the known
    classes, so that one known class is taken for another; over all logits, the easiest
    way would be towards the unknown class, and the images would just be rejected. The
    gradient is taken of `log((1 - p) / p)`, p the probability of the true class: that
    has the same sign everywhere, but does not vanish where p rounds to 1, which would
    make sure models look robust.

    Args:
        network: The `detectors.Network` of the classifier, such as `detector.network`.
        num_classes: N, the number of known classes.

    Raises:
        RuntimeError: Keras does not run on TensorFlow.

    Example:

    >>> attack = Attack(detector.network, detector.num_classes)
    >>> moved = attack.fgsm(images, labels, epsilon=0.1)
    """

    def __init__(self, network: "Network", num_classes: int) -> None:
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                "FGSM and PGD need gradients, which this package takes with TensorFlow "
                "only. Set KERAS_BACKEND=tensorflow, or choose noise as perturbation. "
                f"Received: {keras.backend.backend()!r}"
            )
        import tensorflow as tf

        @tf.function(
            input_signature=[
                tf.TensorSpec((None, *network.image_shape), tf.float32),
                tf.TensorSpec((None,), tf.int64),
                tf.TensorSpec((), tf.float32),
            ],
            autograph=False,
        )
        def step(images, labels, size):
            def run(images):
                logits = network(images)["logits"][:, :num_classes]
                is_true = ops.one_hot(labels, num_classes, dtype="bool")
                true = ops.max(ops.where(is_true, logits, -np.inf), axis=-1)
                others = ops.where(is_true, -np.inf, logits)
                return None, [true - ops.logsumexp(others, axis=-1)]

            return perturbation.lower_scores(images, run, size)[1][0]

        self._compiled_step = step

    def fgsm(
        self, images: np.ndarray, labels: np.ndarray, epsilon: float
    ) -> np.ndarray:
        """One step of length `epsilon` (Goodfellow et al. 2015), clipped to [0, 1].

        Args:
            images: Float32 `(batch, height, width, channels)` in [0, 1].
            labels: The true classes, `(batch,)`.
            epsilon: Largest change of a pixel.

        Returns:
            Float32 images of the same shape.
        """
        return np.clip(self._step(images, labels, epsilon), 0, 1)

    def pgd(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        epsilon: float,
        num_steps: int = 10,
    ) -> np.ndarray:
        """`num_steps` small steps, kept within `epsilon` (Madry et al. 2018).

        It starts at the image itself, and a step is `2.5 epsilon / num_steps` long.

        Args:
            images: Float32 `(batch, height, width, channels)` in [0, 1].
            labels: The true classes, `(batch,)`.
            epsilon: Largest change of a pixel.
            num_steps: How many gradients to follow.

        Returns:
            Float32 images of the same shape.
        """
        low, high = np.clip(images - epsilon, 0, 1), np.clip(images + epsilon, 0, 1)
        moved = images
        for _ in range(num_steps):
            step = self._step(moved, labels, 2.5 * epsilon / num_steps)
            moved = np.clip(step, low, high)
        return moved

    def _step(self, images: np.ndarray, labels: np.ndarray, size: float) -> np.ndarray:
        images = np.asarray(images, np.float32)
        labels = np.asarray(labels, np.int64)
        return self._compiled_step(images, labels, np.float32(size)).numpy()


def find_most_accepted_wrong(measured: Json) -> float:
    """The largest share of known images that one perturbation gets accepted wrongly.

    Args:
        measured: What `robustness.json` holds of one detector of one network.
    """
    return max(
        point["known"]["accepted_wrong"]
        for points in measured["perturbations"].values()
        for point in points
    )


def _changes(detector, perturbations):
    """`{name: function of (images, labels, strength, generator)}`."""
    changes = {
        "none": lambda images, labels, strength, generator: images,
        "white_noise": lambda images, labels, strength, generator: white_noise(
            images, strength, generator
        ),
        "gaussian_noise": lambda images, labels, strength, generator: gaussian_noise(
            images, strength, generator
        ),
    }
    if {"fgsm", "pgd"} & set(perturbations):
        attack = Attack(detector.network, detector.num_classes)
        changes["fgsm"] = lambda *arguments: attack.fgsm(*arguments[:3])
        changes["pgd"] = lambda *arguments: attack.pgd(*arguments[:3])
    return changes


def _check_detectors(detectors, thresholds):
    if not detectors or set(detectors) != set(thresholds):
        raise ValueError(
            "expected detectors as {name: fitted detector} and a threshold for each by "
            f"the same name. Received: detectors {list(detectors)}, thresholds "
            f"{list(thresholds)}"
        )
    for name, detector in detectors.items():
        common.check_fitted(detector, name)
    if len({id(detector.network.model) for detector in detectors.values()}) > 1:
        raise ValueError(
            "the detectors were fitted on several models, but the attacks aim at one: "
            "evaluate each model by itself and compare the results"
        )


def _check_perturbations(perturbations):
    unknown = set(perturbations) - set(PERTURBATIONS)
    if unknown or not perturbations:
        raise ValueError(
            f"perturbations must be some of {list(PERTURBATIONS)}. Received: "
            f"{list(perturbations)}"
        )
    for name, strengths in perturbations.items():
        if not len(strengths) or min(strengths) <= 0:
            raise ValueError(
                f"the strengths of {name!r} must be positive; 0 is always measured. "
                f"Received: {strengths!r}"
            )


def _point(strength, scored, detector, threshold, unknown_scores):
    """What is measured of known images at one strength."""
    right = scored.predictions == scored.labels
    scores = scored.scores[detector]
    accepted = threshold.accepts(scores)
    return {
        "strength": strength,
        "known": {
            "accuracy": float(np.mean(right)),
            "rejected": float(np.mean(~accepted)),
            "accepted_wrong": float(np.mean(accepted & ~right)),
        },
        "unknown": {
            name: evaluate_scores(scores, others[detector])
            for name, others in unknown_scores.items()
        },
    }


def _select_pictured(known):
    """`{title: array}`: images as they are, and every perturbation at one strength.

    That of the paper where it was measured, else half way up.
    """
    rows = {}
    for name, by_strength in known.items():
        rows.setdefault("as they are", by_strength[0.0])
        strength = _PICTURED.get(name)
        if strength not in by_strength:
            strength = list(by_strength)[(len(by_strength) + 1) // 2]
        rows[f"{style.title(name)} {strength:g}"] = by_strength[strength]
    return rows


def _caption(strength, scored, detector, threshold, class_names):
    label = scored.predictions[0]
    accepted = threshold.accepts(scored.scores[detector][0])
    return (
        f"strength {strength:g}\n"
        f"read as {class_names[label] if class_names else label}\n"
        f"{'accepted' if accepted else 'rejected'}"
    )
