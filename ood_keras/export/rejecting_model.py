"""Network, detector and threshold as one live Keras model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import keras
import tensorflow as tf

from ood_keras.calibration import any_threshold
from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.export import serving
from ood_keras.types import Answer, ImageShape

if TYPE_CHECKING:
    from ood_keras.detectors import Detector


class RejectingModel(keras.Model):
    """A `keras.Model` whose `predict` answers as the exported model does.

    Use it where code expects a Keras model: `predict`, `predict_on_batch`, a call, a
    layer of another model. It holds the network itself, so it is as live as that; what
    lasts is the export, which `keras.layers.TFSMLayer` or `export.load` opens.

    Args:
        detector: A fitted detector.
        threshold: A `calibration.Threshold`, or `calibration.ClassThresholds`.
        class_names: Names of the N known classes, by class id.
        name: Name of the model.

    Call arguments:
        image: Float `(batch, height, width, channels)` in [0, 1]; or uint8, 0 to 255,
            which are divided by 255. Floats beyond [0, 1] are rejected as invalid.

    Returns:
        The dict of the signature `serving_default`: `class_id`, -1 when rejected;
        `label`, bytes from `predict`; `probabilities`, `ood_score`, `accepted`,
        `valid`.

    Raises:
        RuntimeError: the detector is not fitted, or Keras does not run on TensorFlow.

    Example:

    >>> model = RejectingModel(detector, threshold, ["cat", "dog"])
    >>> model.predict(images)["class_id"]
    array([ 0,  1, -1], dtype=int32)
    """

    def __init__(
        self,
        detector: "Detector",
        threshold: AnyThreshold,
        class_names: Sequence[str],
        name: str = "rejecting",
    ) -> None:
        # Pixels and scores are float32, whatever the global policy is.
        super().__init__(name=name, dtype="float32")
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                "what answers as the export does needs Keras on TensorFlow. Received: "
                f"backend {keras.backend.backend()!r}"
            )
        if detector.network is None:
            raise RuntimeError(
                f"the detector {detector.name!r} is not fitted; call detector.fit("
                "model, data) first"
            )
        self.supports_jit = False  # Labels are strings.
        self.network = detector.network.model
        self.image_shape: ImageShape = detector.network.image_shape
        self._detector = detector
        self._limits = any_threshold.numbers(threshold)
        self._names = tuple(class_names)

    def build(self, input_shape: Any) -> None:
        """The network is built already."""
        self.built = True

    def call(self, image: tf.Tensor) -> Answer:
        if image.dtype == tf.uint8:
            image = tf.cast(image, tf.float32) / 255.0
        image = tf.ensure_shape(image, (None, *self.image_shape))
        return serving.answer(self._detector, self._limits, self._names, image)

    def get_config(self) -> NoReturn:
        raise NotImplementedError(
            "this model is live: network, detector and threshold in one. Save the "
            "export instead, export.saved_model(...), and open it with export.load or "
            "keras.layers.TFSMLayer"
        )
