"""An exported model in Python."""

import pathlib

import numpy as np
import tensorflow as tf

from ood_keras import batches
from ood_keras.export import known_examples, manifest
from ood_keras.export.shipped import locate


def load(path):
    """Opens an exported model after checking that it is whole.

    Args:
        path: `DIR/VERSION`, a folder that `saved_model` wrote; or, where there is no
            folder of that name, the name of a model that comes with the package, see
            `shipped`.

    Returns:
        A `Predictor`.

    Raises:
        FileNotFoundError: `path` is not an exported model.
        ValueError: it is damaged, or was changed after it was exported, or it is a
            model in another format.

    Example:

    >>> predictor = export.load("saved_models/mnist/1")
    >>> predictor.predict(images)["label"]
    array(['7', '__unknown__', '2'], dtype=object)
    """
    return Predictor(locate(path))


class Predictor:
    """A model that rejects what it does not know; made by `load`.

    Attributes:
        path: The folder, a `pathlib.Path`.
        manifest: The content of `manifest.json`, a dict.
        threshold: Largest accepted `ood_score`, as the manifest states it.
        operating_points: Other thresholds that the model offers, by name.
        class_names: Labels of the known classes, by class id.
        image_shape: `(height, width, channels)` of the images it takes.
        known_examples: The `KnownExamples` that it was exported with, or `None`.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.manifest = manifest.read(self.path)
        if "converted_to" in self.manifest:
            raise ValueError(
                f"{path} holds no SavedModel but a copy converted to "
                f"{self.manifest['converted_to']}; open it with export.TFLitePredictor "
                "or export.ONNXPredictor"
            )
        self.class_names = tuple(self.manifest["class_names"])
        self.threshold = self.manifest["threshold"]["value"]
        self.operating_points = {
            name: point["value"]
            for name, point in self.manifest["operating_points"].items()
        }
        self.image_shape = tuple(self.manifest["input"]["image"]["shape"][1:])
        self.known_examples = known_examples.read(self.path)
        # The functions of a loaded model live no longer than the model.
        self._model = tf.saved_model.load(str(self.path))

    def predict(self, images, threshold=None, batch_size=256):
        """Decides for each image: a known class, or unknown.

        Args:
            images: Float images `(num_images, height, width, channels)` in [0, 1], or a
                dataset of batches of them. NaN, infinite and out-of-range pixels make
                an image invalid; it is then rejected.
            threshold: Largest accepted `ood_score`, a number or the name of an
                operating point; `None` takes the model's own.
            batch_size: Images per run, for arrays.

        Returns:
            A dict of arrays with one row for each image: `class_id` int32, -1 if
            rejected; `label`, "__unknown__" if rejected; `probabilities` float32
            `(num_images, N)`, the softmax over the known classes, all 0 for an invalid
            image; `ood_score` float32, higher means more likely unknown; `accepted`
            bool, whether `ood_score <= threshold`; `valid` bool.

        Raises:
            TypeError: images are integers.
            ValueError: images have another shape than the model takes, or there is no
                such operating point.
        """
        if isinstance(threshold, str):
            if threshold not in self.operating_points:
                raise ValueError(
                    f"unknown operating point {threshold!r}; this model has: "
                    f"{', '.join(self.operating_points) or 'none'}"
                )
            threshold = self.operating_points[threshold]
        answers = []
        for batch in self._batches(images, batch_size):
            if threshold is None:
                answers.append(self._run("serving_default", image=batch))
            else:
                limits = np.full(len(batch), threshold, np.float32)
                answers.append(self._run("predict_at", image=batch, threshold=limits))
        return _joined(answers)

    def predict_bytes(self, contents, batch_size=256):
        """Decides for each image file; one that cannot be decoded is invalid.

        Args:
            contents: A list of `bytes`, the content of one PNG or JPEG file each, of
                any size; converted as the manifest says under `input`.
            batch_size: Files per run.

        Returns:
            As `predict` does.

        Raises:
            TypeError: `contents` is not a list of bytes.
            ValueError: the model takes images that no image file holds.
        """
        if isinstance(contents, (bytes, str)) or not all(
            isinstance(content, bytes) for content in contents
        ):
            raise TypeError(
                "expected a list of bytes, the content of one image file each. "
                f"Received: {type(contents).__name__}"
            )
        if "predict_bytes" not in self._model.signatures:
            raise ValueError(
                "this model has no predict_bytes: image files have 1 or 3 channels, "
                f"and it takes {self.image_shape[-1]}. Use predict"
            )
        starts = range(0, max(1, len(contents)), batch_size)
        return _joined(
            [
                self._run(
                    "predict_bytes",
                    image_bytes=np.array(contents[start : start + batch_size], object),
                )
                for start in starts
            ]
        )

    def features(self, images, batch_size=256):
        """The layer before the classifier and the logits, all 0 for an invalid image.

        Args:
            images: As for `predict`.
            batch_size: Images per run, for arrays.

        Returns:
            A dict of float32 arrays: `features` `(num_images, D)` and `logits`
            `(num_images, K)`.
        """
        return _joined(
            [
                self._run("features", image=batch)
                for batch in self._batches(images, batch_size)
            ]
        )

    def _batches(self, images, batch_size):
        """Yields batches of the right shape: one empty one if there are no images."""
        empty = True
        for batch, _ in batches.iterate(images, batch_size):
            if batch.shape[1:] != self.image_shape:
                raise ValueError(
                    "expected images of shape (num_images, "
                    f"{', '.join(map(str, self.image_shape))}). Received: {batch.shape}"
                )
            empty = False
            yield batch
        if empty:
            yield np.zeros((0, *self.image_shape), np.float32)

    def _run(self, signature, **inputs):
        if "image_bytes" in inputs:
            inputs["image_bytes"] = tf.constant(inputs["image_bytes"], tf.string)
        outputs = self._model.signatures[signature](**inputs)
        answer = {name: output.numpy() for name, output in outputs.items()}
        if "label" in answer:
            answer["label"] = np.array(
                [label.decode() for label in answer["label"]], object
            )
        return answer


def _joined(answers):
    return {
        name: np.concatenate([answer[name] for answer in answers])
        for name in answers[0]
    }
