"""Exact metrics of a model in training on known and unknown validation images."""

import keras
import numpy as np
from keras import ops

from ood_keras import batches, metrics
from ood_keras.detectors import output_scores
from ood_keras.detectors.compiled import compile_function
from ood_keras.training import processes
from ood_keras.types import Images


class Validation:
    """Measures how well a score of the logits tells known from unknown images.

    Args:
        model: A Keras model with logits `(batch, N)` or `(batch, N + 1)` as output, or
            as the output "logits" of a dict.
        data: `(known, unknown)`: images with labels `0..N-1`, images whose labels do
            not matter; each what `ood_keras.batches.iterate` takes, and readable again.
            `unknown` may be `None`.
        num_classes: N.
        score: Name of a score in `ood_keras.detectors.output_scores`.

    Raises:
        TypeError, ValueError: the first batch of either cannot be scored; said before
            training begins, not after its first epoch.
    """

    def __init__(
        self,
        model: keras.Model,
        data: tuple[Images, Images | None],
        num_classes: int,
        score: str,
    ) -> None:
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise TypeError(
                "`validation` must be a pair (known, unknown) of image data. Received: "
                f"{type(data).__name__}"
            )
        self._known, self._unknown = data
        self._num_classes = num_classes
        self._model = model
        self._score = output_scores.get(score)
        # Only counts, which float32 holds up to 16 million.
        exact = "float32" if keras.backend.backend() == "jax" else "float64"
        with processes.keep_local():  # It sees all images in each process.
            self._accuracy = metrics.KnownAccuracy(num_classes, dtype=exact)
        self._function = None
        for name, part in (("known", self._known), ("unknown", self._unknown)):
            if name == "unknown" and part is None:
                continue
            if hasattr(part, "__next__"):
                raise TypeError(
                    f"the {name} validation data can be read only once, but is read "
                    "after every epoch. Give arrays or a dataset, not an iterator"
                )
            batch = next(batches.iterate(part), None)
            if batch is None or not len(batch[0]):
                raise ValueError(f"there are no {name} validation images")
            if not model.built:
                model(batch[0][:1], training=False)
            logits, _ = self._run(batch[0])
            _check_logits(logits)
            if name == "known":
                self._check_labels(batch[1])

    def measure(self) -> dict[str, float]:
        """Returns the metrics of `metrics.evaluate_scores`, and `known_accuracy`.

        Without unknown images: `known_accuracy`, and `known_loss`, the mean
        cross-entropy over the N known classes.

        Raises:
            ValueError: a label is out of range, images differ in shape, or the model's
                output holds NaN.
        """
        self._accuracy.reset_state()
        known_scores, known_losses = [], []
        for images, labels in batches.iterate(self._known):
            self._check_labels(labels)
            logits, scores = self._run(images)
            self._accuracy.update_state(labels, logits)
            known_scores.append(scores)
            if self._unknown is None:
                known_losses.append(self._known_loss(labels, logits))
        known = {"known_accuracy": float(self._accuracy.result())}
        if self._unknown is None:
            return {**known, "known_loss": float(np.mean(np.concatenate(known_losses)))}
        unknown_scores = [
            self._run(images)[1] for images, _ in batches.iterate(self._unknown)
        ]
        return {
            **metrics.evaluate_scores(
                np.concatenate(known_scores), np.concatenate(unknown_scores)
            ),
            **known,
        }

    def _run(self, images):
        if self._function is None:
            # One trace for every batch size: a graph for a fixed size may round
            # otherwise, and a resumed run would not see the sizes in the same order.
            self._image_shape = images.shape[1:]
            self._function = compile_function(self._call)
        if images.shape[1:] != self._image_shape:
            raise ValueError(
                "validation images, known and unknown ones, must have one shape, here "
                f"{self._image_shape} as the first known ones. Received: images of "
                f"shape {images.shape[1:]}. Resize these, as image_shape="
                f"{self._image_shape} of `pipelines.load` does"
            )
        return self._function(images)

    def _call(self, images):
        outputs = self._model(images, training=False)
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs
        return ops.cast(logits, "float32"), self._score(logits, self._num_classes)

    def _known_loss(self, labels, logits):
        logits = logits[:, : self._num_classes].astype(np.float64)
        true = np.take_along_axis(logits, labels.reshape(-1, 1).astype(np.int64), 1)
        return np.logaddexp.reduce(logits, axis=1) - true[:, 0]

    def _check_labels(self, labels: np.ndarray | None) -> None:
        if labels is None:
            raise ValueError(
                "the known validation data must have labels. Received: images only"
            )
        if labels.min() < 0 or labels.max() >= self._num_classes:
            raise ValueError(
                "labels of the known validation images must be from 0 to "
                f"{self._num_classes - 1}. Received: labels from {labels.min()} to "
                f"{labels.max()}"
            )


def _check_logits(logits: np.ndarray) -> None:
    if np.all(logits >= 0) and np.allclose(logits.sum(axis=-1), 1, atol=1e-3):
        raise ValueError(
            "the model's output must be logits, but it looks like probabilities: every "
            "row is at least 0 and sums to 1. Remove the softmax from the last layer"
        )
