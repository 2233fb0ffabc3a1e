"""Gaussians over features, and distances to them by matrix products."""

import numpy as np
from keras import ops

from ood_keras.detectors.statistics import ClassSums, whitening
from ood_keras.types import Arrays, Tensor


def fit(sums: ClassSums, num_classes: int, shrinkage: float, cutoff: float) -> Arrays:
    """Class means under one pooled covariance, ready for `squared_distances`.

    Args:
        sums: A `ClassSums`.
        num_classes: N.
        shrinkage: See `whitening`.
        cutoff: See `whitening`.

    Returns:
        Float32 arrays: `mean` `(D,)`, the common mean; `whitening` `(D, rank)`; and
        `class_means` `(N, rank)`, about the common mean and whitened.

    Raises:
        ValueError: a class has no images, or no class has two that differ.
    """
    mean = sums.mean()
    matrix = whitening(
        sums.pooled_covariance(), shrinkage, cutoff, sums.rounding_variance()
    )
    if not matrix.shape[1]:
        raise ValueError(
            "the features of all images of a class are the same, so that no distance "
            "can be measured. Give more images of each class, or read another layer"
        )
    class_means = (sums.class_means(num_classes) - mean) @ matrix
    return {
        "mean": mean.astype(np.float32),
        "whitening": matrix.astype(np.float32),
        "class_means": class_means.astype(np.float32),
    }


def squared_distances(
    features: Tensor, mean: Tensor, whitening: Tensor, class_means: Tensor
) -> Tensor:
    """Squared Mahalanobis distances `(batch, N)` of features `(batch, D)`."""
    whitened = ops.matmul(features - mean, whitening)
    squares = ops.sum(ops.square(whitened), axis=-1, keepdims=True)
    products = ops.matmul(whitened, ops.transpose(class_means))
    offsets = ops.sum(ops.square(class_means), axis=-1)
    return ops.maximum(squares + (offsets - 2.0 * products), 0.0)
