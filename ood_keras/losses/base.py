"""What all losses of this room share: the labels, the checks and the config."""

from typing import Literal

import keras
from keras import ops

from ood_keras.conventions import check_float64, check_num_classes
from ood_keras.metrics.labels import split_labels
from ood_keras.types import DType, Json, Tensor


class KnownUnknownLoss(keras.losses.Loss):
    """Base of losses over integer labels, where every unknown image has the label -1.

    Args:
        num_classes: Integer N >= 1, the number of known classes; of losses without an
            unknown class, N >= 2.
        reduction: As in `keras.losses.Loss`; `None` keeps one value per image.
        name: Name of the loss. `None` makes one from the class.
        dtype: As in `keras.losses.Loss`, but 32 or 64 bits wide. `None` means float32.

    Raises:
        ValueError: `num_classes` is no such integer; `dtype` has 16 bits, or has 64
            bits on JAX without `jax_enable_x64`.
    """

    # A softmax over one logit is always 1.
    _least_classes: Literal[1, 2] = 1

    def __init__(
        self,
        num_classes: int,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: DType = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype or "float32")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(
                "losses are computed in float32 or float64, since 16 bits hold neither "
                "large labels nor small probabilities; the outputs of a model in mixed "
                "precision are converted for you, so leave `dtype` out. Received: "
                f"dtype={dtype}"
            )
        if self.dtype == "float64":
            check_float64("this loss")
        self.num_classes = check_num_classes(num_classes, least=self._least_classes)

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "dtype": self.dtype,
        }


def target_indices(
    y_true: Tensor, num_classes: int, outputs: Tensor
) -> tuple[Tensor, Tensor]:
    """Reads integer labels as indices of N+1 outputs.

    Args:
        y_true: Labels `(batch,)` or `(batch, 1)` of any number type. Every label
            outside `0..num_classes - 1` counts as unknown: inside a graph a wrong label
            cannot raise an error, and the pipelines check labels before they get here.
        num_classes: Number N of known classes.
        outputs: Logits or features `(batch, ...)` of the same images.

    Returns:
        `(targets, known)`: int32 `(batch,)`, N for unknown images; and bool `(batch,)`.

    Raises:
        ValueError: `y_true` has another shape, or not one label for each of `outputs`.
    """
    known, labels = split_labels(y_true, num_classes, outputs)
    return ops.where(known, labels, num_classes), known


def check_logits(logits: Tensor, num_classes: int, *, unknown_class: bool) -> Tensor:
    """Returns logits in 32 or 64 bits; raises if their number does not fit."""
    logits = at_least_float32(logits)
    expected = num_classes + bool(unknown_class)
    if len(logits.shape) != 2 or logits.shape[1] not in (expected, None):
        name = "N+1" if unknown_class else "N"
        raise ValueError(
            f"expected {name}={expected} logits per image for the N={num_classes} "
            f"known classes; received shape {tuple(logits.shape)}; build the model "
            f"with `unknown_class={bool(unknown_class)}`, or correct `num_classes`"
        )
    return logits


def at_least_float32(x: Tensor) -> Tensor:
    """Returns `x` as a floating-point tensor of 32 bits or more."""
    x = ops.convert_to_tensor(x)
    wide = keras.backend.standardize_dtype(x.dtype) == "float64"
    return x if wide else ops.cast(x, "float32")
