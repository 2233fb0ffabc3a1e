"""What losses around another loss share."""

from typing import Any

import keras

from ood_keras.losses.base import KnownUnknownLoss
from ood_keras.losses.extra_class_cross_entropy import ExtraClassCrossEntropy
from ood_keras.types import DType, Json


class LossAround(KnownUnknownLoss):
    """Base of losses that change the inputs of another one.

    Args:
        num_classes: Integer N >= 1, the number of known classes.
        loss: The other loss, of labels and logits, or its configuration. `None` means
            `ExtraClassCrossEntropy(num_classes)`.
        reduction: As in `keras.losses.Loss`; that of `loss` has no say.
        name: Name of the loss.
        dtype: Float32 or float64; as in `keras.losses.Loss`. Defaults to float32.
    """

    def __init__(
        self,
        num_classes: int,
        loss: keras.losses.Loss | Json | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, reduction=reduction, name=name, dtype=dtype)
        if loss is None:
            loss = ExtraClassCrossEntropy(num_classes, dtype=dtype)
        elif isinstance(loss, dict):
            loss = keras.saving.deserialize_keras_object(loss)
        if not isinstance(loss, keras.losses.Loss):
            raise TypeError(
                "`loss` must be a keras.losses.Loss, such as losses.OpenSetLoss("
                f"num_classes={num_classes}). Received: {loss!r}"
            )
        inner = getattr(loss, "num_classes", num_classes)
        if inner != self.num_classes:
            raise ValueError(
                f"`loss` is for {inner} known classes. Received: num_classes="
                f"{num_classes}"
            )
        self.loss: Any = loss

    def get_config(self) -> Json:
        config: Json = {
            **super().get_config(),
            "loss": keras.saving.serialize_keras_object(self.loss),
        }
        return config
