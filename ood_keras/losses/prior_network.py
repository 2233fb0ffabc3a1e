"""The loss of prior networks: a Dirichlet distribution over class probabilities."""

from typing import Literal

import keras
from keras import ops

from ood_keras import dirichlet
from ood_keras.conventions import check_float64, check_number
from ood_keras.losses.base import (
    KnownUnknownLoss,
    check_logits,
    target_indices,
)
from ood_keras.types import DType, Json, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class PriorNetwork(KnownUnknownLoss):
    """Makes the logits a Dirichlet distribution: sharp for known, flat for unknown.

    Use it to train the baseline of Malinin and Gales, "Predictive Uncertainty
    Estimation via Prior Networks" (NeurIPS 2018), in the form of their "Reverse
    KL-Divergence Training of Prior Networks" (NeurIPS 2019). The outputs alpha =
    exp(logits) are the concentrations of Dir(alpha) over the N class probabilities.
    With the target t_k = 1, and t_y = 1 + concentration for a known image of class y,
    each image costs

        "reverse":  KL(Dir(alpha) || Dir(t)) / concentration
        "forward":  KL(Dir(t) || Dir(alpha)) / concentration

    and `weight` times that if it is unknown. The division, which the authors' later
    code does too, makes learning rates those of other losses. The softmax of the logits
    is the mean of the distribution, so classification and every softmax score work as
    usual; `baselines.PriorNetwork` scores by how flat the distribution is. Beyond
    -50..50, where exp would leave what float32 holds, a logit costs as at that end, and
    its distance to it.

    Args:
        num_classes: Integer N >= 2, the number of known classes.
        concentration: Float > 0, what the target of a known image has more than a flat
            one. Defaults to `100.0`, the authors' of 2019.
        weight: Float >= 0, the weight of an unknown image. `None` means N: where there
            is one unknown image to N known ones, as in the paper that this package
            follows, both kinds then weigh alike, as they do in the authors' training.
            Defaults to `None`.
        direction: "reverse" (the later paper's; better with many classes) or "forward"
            (the first paper's). Defaults to `"reverse"`.
        reduction: As in `keras.losses.Loss`; `None` keeps one value per image.
        name: Name of the loss. Defaults to `"prior_network"`.
        dtype: Float32 or float64; as in `keras.losses.Loss`. Defaults to float32.

    Call arguments:
        y_true: Integer labels `(batch,)` or `(batch, 1)`: 0..N-1 for known images, -1
            for unknown ones. Any other label counts as unknown too.
        y_pred: Logits `(batch, N)`, of a model built with `unknown_class=False`.
        sample_weight: Optional `(batch,)`, multiplies the value of each image.

    Returns:
        A scalar, or `(batch,)` with `reduction=None`.

    Raises:
        ValueError: an argument is out of its range; or `y_pred` or `y_true` has the
            wrong shape. On JAX, `jax_enable_x64` is not set.

    Example:

    >>> import numpy as np, ood_keras
    >>> loss = ood_keras.losses.PriorNetwork(num_classes=4)
    >>> logits = np.zeros((1, 4), "float32")  # flat, the best for an unknown image
    >>> abs(round(float(loss([-1], logits)), 4))
    0.0
    """

    _least_classes = 2

    def __init__(
        self,
        num_classes: int,
        concentration: float = 100.0,
        weight: float | None = None,
        direction: Literal["reverse", "forward"] = "reverse",
        reduction: str | None = "sum_over_batch_size",
        name: str = "prior_network",
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, reduction=reduction, name=name, dtype=dtype)
        check_float64("this loss")
        self.concentration = check_number(
            "concentration",
            concentration,
            "(0, inf)",
            "what known images have more than unknown ones",
        )
        if weight is not None:
            meaning = "the weight of an unknown image"
            weight = check_number("weight", weight, "[0, inf)", meaning)
        if direction not in ("reverse", "forward"):
            raise ValueError(
                "`direction` must be 'reverse' or 'forward'. "
                f"Received: direction={direction!r}"
            )
        self.weight = weight
        self.direction = direction

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return prior_network(
            y_true,
            y_pred,
            self.num_classes,
            self.concentration,
            self.weight,
            self.direction,
        )

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "concentration": self.concentration,
            "weight": self.weight,
            "direction": self.direction,
        }


def prior_network(
    y_true: Tensor,
    logits: Tensor,
    num_classes: int,
    concentration: float = 100.0,
    weight: float | None = None,
    direction: Literal["reverse", "forward"] = "reverse",
) -> Tensor:
    """Returns the loss of each image, `(batch,)`; see `PriorNetwork`."""
    logits = check_logits(logits, num_classes, unknown_class=False)
    targets, known = target_indices(y_true, num_classes, logits)
    # An unknown label, N, has no column of its own; PyTorch refuses it without one.
    is_true = ops.one_hot(targets, num_classes + 1, dtype="float64")[:, :num_classes]
    pair = dirichlet.concentrations(logits), 1.0 + concentration * is_true
    values = dirichlet.divergence(*(pair if direction == "reverse" else pair[::-1]))
    values = ops.cast(values / concentration, logits.dtype)
    # The cost goes on where the concentrations stop, else so would the learning.
    excess = ops.relu(ops.abs(logits) - dirichlet.LARGEST_LOGIT)
    values = values + ops.sum(excess, axis=-1)
    weight = num_classes if weight is None else weight
    return ops.where(known, values, weight * values)
