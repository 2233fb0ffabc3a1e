"""One walk over a data set: every score, and the few images worth showing."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ood_keras.detectors.compiled import compile_function, run_in_parts
from ood_keras.detectors.statistics import Smallest
from ood_keras.types import Batches

if TYPE_CHECKING:
    from ood_keras.detectors import Detector

NUM_PICTURED = 2000
NUM_EXAMPLES = 10


class NoScoreError(ValueError):
    """A detector gives no score for an image.

    Attributes:
        detector: Its name among those that scored.
    """

    def __init__(self, detector: str, message: str) -> None:
        super().__init__(message)
        self.detector = detector


@dataclasses.dataclass(frozen=True)
class Scored:
    """What one walk over a data set keeps, in the order of the images.

    Attributes:
        scores: `{detector: ood_score (n,)}`, float32.
        labels: int64 `(n,)`, or `None` if the data has none.
        predictions: int `(n,)`, the known class with the largest logit.
        predictions_of: `{detector: predictions}`, the same from the network of each
            detector.
        confidence: float32 `(n,)`, the largest probability of a known class.
        sample: A fixed random choice of at most `NUM_PICTURED` images:
            `{"features": (k, D), "index": (k,)}`.
        examples: `{detector: {"images": (k, H, W, C), "index": (k,)}}`: of each
            detector the `NUM_EXAMPLES` images that are most wrong, the worst first.
    """

    scores: dict[str, np.ndarray]
    # `Any` stands for `None`, which whoever knows the data need not check for.
    labels: np.ndarray | Any = None
    predictions: np.ndarray | Any = None
    confidence: np.ndarray | Any = None
    sample: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    examples: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    predictions_of: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


class Scorer:
    """Runs each network once per batch for all the detectors that read its outputs.

    Args:
        fitted: `{name: fitted detector}`.
    """

    def __init__(self, fitted: "Mapping[str, Detector]") -> None:
        layers: list[set[str]]
        keys, networks, layers, self._group = [], [], [], {}
        for name, detector in fitted.items():
            config = detector.get_config()
            key = (id(detector.network.model), config["logits"], config["features"])
            if key not in keys:
                keys.append(key)
                networks.append(detector.network)
                layers.append(set())
            self._group[name] = keys.index(key)
            if not detector.changes_input:
                layers[self._group[name]] |= set(detector.layers)
        num_classes = next(iter(fitted.values())).num_classes

        def run(images):
            outputs = [
                network(images, sorted(names))
                for network, names in zip(networks, layers, strict=True)
            ]
            scores = {
                name: detector.call(images)["ood_score"]
                if detector.changes_input
                else detector.score_outputs(outputs[self._group[name]])
                for name, detector in fitted.items()
            }
            return scores, [_summary(output, num_classes) for output in outputs]

        self._run = compile_function(run)

    def score(
        self,
        batches: Batches,
        name: str,
        *,
        detector: str | None = None,
        worst: Literal["highest", "lowest"] = "highest",
    ) -> Scored:
        """Walks over a data set once.

        Args:
            batches: `(images, labels)` pairs, from `ood_keras.batches.iterate`.
            name: Of the data, for error messages.
            detector: Name of the detector whose network gives predictions and
                features; `None` keeps the scores and `predictions_of` only, and no
                images.
            worst: Whether the worst images have the "highest" score (known images) or
                the "lowest" (unknown images).

        Returns:
            A `Scored`.

        Raises:
            NoScoreError: a score is NaN.
            ValueError: there is no image.
        """
        generator = np.random.default_rng(0)
        sample = Smallest(NUM_PICTURED)
        examples = {scorer: Smallest(NUM_EXAMPLES) for scorer in self._group}
        all_labels: list[Any]
        all_scores, all_labels, all_summaries, num_images = [], [], [], 0
        all_classes: list[list[Any]] = []
        for images, labels in batches:
            if not len(images):
                continue
            scores, summaries = run_in_parts(self._run, images)
            all_scores.append(scores)
            all_labels.append(labels)
            all_classes.append([summary["predictions"] for summary in summaries])
            if detector is not None:
                index = np.arange(num_images, num_images + len(images))
                summary = summaries[self._group[detector]]
                sample.add(
                    generator.random(len(images)),
                    features=summary.pop("features"),
                    index=index,
                )
                sign = 1 if worst == "lowest" else -1
                for scorer, kept in examples.items():
                    kept.add(sign * scores[scorer], images=images, index=index)
                all_summaries.append(summary)
            num_images += len(images)
        if not num_images:
            raise ValueError(f"{name} has no images; give it at least one")
        scores = _join(all_scores)
        classes = [np.concatenate(parts) for parts in zip(*all_classes, strict=True)]
        for scorer, values in scores.items():
            if np.isnan(values).any():
                raise NoScoreError(
                    scorer,
                    f"detector {scorer!r} gives NaN for {np.isnan(values).sum()} of "
                    f"{num_images} images of {name}. Check that the images and the "
                    "weights of the model are finite",
                )
        return Scored(
            scores=scores,
            labels=None if all_labels[0] is None else np.concatenate(all_labels),
            sample=sample.rows,
            examples={scorer: kept.rows for scorer, kept in examples.items()}
            if detector is not None
            else {},
            predictions_of={
                scorer: classes[group] for scorer, group in self._group.items()
            },
            **_join(all_summaries),
        )


def _summary(outputs, num_classes):
    """What is kept of a network's outputs."""
    from keras import ops

    logits = outputs["logits"]
    probabilities = ops.softmax(logits, axis=-1)[:, :num_classes]
    return {
        "predictions": ops.argmax(logits[:, :num_classes], axis=-1),
        "confidence": ops.max(probabilities, axis=-1),
        "features": outputs["features"],
    }


def _join(parts):
    if not parts:
        return {}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
