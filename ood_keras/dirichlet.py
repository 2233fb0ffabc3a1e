"""Dirichlet distributions, which the logits of a prior network stand for.

In float64, since terms of 1e3 and more cancel, and written out, since `keras.ops` has
neither log-gamma nor digamma.
"""

import math

from keras import ops

from ood_keras.types import Tensor

# exp(50) is far beyond any useful concentration; gradients still fit into float32.
LARGEST_LOGIT = 50.0
_SHIFT = 8


def concentrations(logits: Tensor) -> Tensor:
    """`exp(logits)` as float64, finite for all logits."""
    logits = ops.cast(logits, "float64")
    return ops.exp(ops.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT))


def divergence(left: Tensor, right: Tensor) -> Tensor:
    """Returns `KL(Dir(left) || Dir(right))`, `(batch,)`, of two `(batch, N)`.

    With a_0 the sum over k of left and psi the digamma function:

        log G(a_0) - sum_k log G(a_k) - log G(b_0) + sum_k log G(b_k)
            + sum_k (a_k - b_k) (psi(a_k) - psi(a_0))

    In float64, and with `g(x) = log G(x) - x psi(x) + x` for the terms in a_k alone:
    they are as large as a_0, while the sum is as small as log a_0.
    """
    left, right = ops.cast(left, "float64"), ops.cast(right, "float64")
    total = ops.sum(left, axis=-1, keepdims=True)
    expected_log = _digamma(left) - _digamma(total)
    return (
        _log_normalizer(right)
        + _remainder(total)[..., 0]
        - ops.sum(_remainder(left), axis=-1)
        - ops.sum(right * expected_log, axis=-1)
    )


def entropy(alpha: Tensor) -> Tensor:
    """Differential entropy of Dir(alpha), `(batch,)`: highest, -log (N - 1)!, if flat.

    As KL to the flat distribution, whose density is (N - 1)! everywhere.
    """
    return -divergence(alpha, ops.ones_like(alpha)) - math.lgamma(alpha.shape[-1])


def _log_normalizer(alpha: Tensor) -> Tensor:
    """Logarithm of the multivariate beta function."""
    total = ops.sum(alpha, axis=-1)
    return ops.sum(_log_gamma(alpha), axis=-1) - _log_gamma(total)


def _log_gamma(x: Tensor) -> Tensor:
    """Stirling's series after a shift by 8; an error of 1e-11 for x > 0."""
    y = x + _SHIFT
    shift = sum(ops.log(x + k) for k in range(_SHIFT))
    return (y - 0.5) * ops.log(y) - y + _log_gamma_series(y) - shift


def _digamma(x: Tensor) -> Tensor:
    """The derivative of `_log_gamma`, as accurate."""
    y = x + _SHIFT
    return ops.log(y) - _digamma_series(y) - sum(1 / (x + k) for k in range(_SHIFT))


def _remainder(x: Tensor) -> Tensor:
    """`log G(x) - x psi(x) + x`, where what is as large as x has cancelled on paper."""
    y = x + _SHIFT
    shift = sum(ops.log(x + k) - x / (x + k) for k in range(_SHIFT))
    return (
        (_SHIFT - 0.5) * ops.log(y)
        - _SHIFT
        + _log_gamma_series(y)
        + x * _digamma_series(y)
        - shift
    )


def _log_gamma_series(y: Tensor) -> Tensor:
    """`log G(y) - (y - 1/2) log y + y`."""
    series = 1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / y**2) / y**2) / y**2
    return 0.5 * math.log(2 * math.pi) + series / y


def _digamma_series(y: Tensor) -> Tensor:
    """`log y - psi(y)`."""
    square = 1 / y**2
    series = 1 / 12 - (1 / 120 - (1 / 252 - square / 240) * square) * square
    return 0.5 / y + series * square
