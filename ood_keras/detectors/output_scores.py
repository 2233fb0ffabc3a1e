"""Scores of one image's logits, as pure functions, for detectors and metrics alike.

Every function takes logits `(batch, K)` with K = N, or K = N + 1 where the last logit
is the unknown class, and returns `ood_score` `(batch,)`, float32: higher means more
likely unknown. None of them rounds a probability to 0 or 1 on the way: they stay in
logit or log space, so that scores keep their order where a float32 softmax would tie,
and are finite for logits of +-10,000.
"""

import math
from collections.abc import Callable

from keras import ops

from ood_keras import dirichlet
from ood_keras.types import Tensor


def unknown_probability(logits: Tensor, num_classes: int) -> Tensor:
    """Log-odds of the unknown class: `z_N - log(sum_k exp(z_k))`, k over the known.

    A strictly increasing function of the softmax probability of the unknown class.
    Needs `num_classes + 1` logits.
    """
    known, unknown = split(logits, num_classes)
    if unknown.shape[-1] == 0:
        raise ValueError(
            "`unknown_probability` needs an extra logit for the unknown class: "
            f"{num_classes + 1} logits for {num_classes} known classes. Received: "
            f"{num_classes}. Use another score, or train with an unknown class"
        )
    return unknown[:, 0] - ops.logsumexp(known, axis=-1)


def msp(logits: Tensor, num_classes: int, temperature: float = 1.0) -> Tensor:
    """Log-odds against the largest known probability: `log((1 - p) / (p (K - 1)))`.

    A strictly decreasing function of the maximum softmax probability p (Hendrycks and
    Gimpel 2017), 0 where all K classes are equally likely. The softmax runs over all
    logits, so that the probability of an unknown class, where there is one, counts
    against the known ones.
    """
    known, unknown = split(logits, num_classes)
    largest, rest = _largest_and_rest(known, unknown)
    gaps = (rest - largest) / temperature
    # The score is the logarithm of the mean of exp(gaps). Where all gaps are small, as
    # under a high temperature, their sum is taken without the ones that hide it.
    small = ops.max(ops.abs(gaps), axis=-1) < 0.5
    near = ops.where(small[:, None], gaps, 0.0)
    return ops.where(
        small,
        log1p(ops.mean(expm1(near), axis=-1)),
        ops.logsumexp(gaps, axis=-1) - math.log(gaps.shape[-1]),
    )


def minus_log_largest(logits: Tensor, num_classes: int) -> Tensor:
    """`-log(p)` of the largest known probability p, the softmax over all logits."""
    largest, rest = _largest_and_rest(*split(logits, num_classes))
    return ops.softplus(ops.logsumexp(rest, axis=-1) - largest[:, 0])


def max_logit(logits: Tensor, num_classes: int) -> Tensor:
    """The negative of the largest known logit (Hendrycks et al. 2022)."""
    return -ops.max(split(logits, num_classes)[0], axis=-1)


def energy(logits: Tensor, num_classes: int, temperature: float = 1.0) -> Tensor:
    """Free energy `-T log(sum_k exp(z_k / T))`, k over the known (Liu et al. 2020)."""
    known = split(logits, num_classes)[0]
    return -temperature * ops.logsumexp(known / temperature, axis=-1)


def entropy(logits: Tensor, num_classes: int) -> Tensor:
    """Logarithm of the entropy of the known softmax: `log(-sum_k p_k log(p_k))`.

    The softmax runs over the N known logits. The logarithm keeps the order where the
    entropy itself would round to 0.
    """
    log_p, _, log_minus_log_largest = _log_probabilities(logits, num_classes)
    log_minus_log_p = ops.concatenate(
        [log_minus_log_largest, ops.log(-log_p[:, 1:])], axis=-1
    )
    return ops.logsumexp(log_p + log_minus_log_p, axis=-1)


def gen(
    logits: Tensor, num_classes: int, gamma: float = 0.1, num_top: int = 100
) -> Tensor:
    """Logarithm of the generalized entropy: `log(sum_j (p_j (1 - p_j))^gamma)`.

    Liu et al. 2023; j runs over the `num_top` largest of the known probabilities.
    """
    log_p, log_one_minus_largest, _ = _log_probabilities(logits, num_classes)
    # No other probability is above 1/2, so that nothing is lost here.
    log_one_minus_p = ops.concatenate(
        [log_one_minus_largest, ops.log(1.0 - ops.exp(log_p[:, 1:]))], axis=-1
    )
    terms = gamma * (log_p + log_one_minus_p)
    return ops.logsumexp(terms[:, :num_top], axis=-1)


def objectosphere(logits: Tensor, num_classes: int) -> Tensor:
    """Logit of the norm of the known probabilities: `log((1 - n) / n)`, `n = ||p||^2`.

    p are the N known entries of the softmax over all logits, whose norm the
    objectosphere loss pushes up for known images and down for unknown ones.
    """
    known, unknown = split(logits, num_classes)
    largest, rest = _largest_and_rest(known, unknown)
    log_total = ops.logsumexp(ops.concatenate([known, unknown], -1), axis=-1)
    log_rest = ops.logsumexp(rest, axis=-1)
    log_norm = ops.logsumexp(2.0 * (known - log_total[:, None]), axis=-1)
    # With q = 1 - p_1 and r_k = p_k / q for the other known classes,
    # 1 - n = q (1 + p_1 - q sum r_k^2): no difference of nearly equal numbers.
    largest_probability = ops.exp(largest[:, 0] - log_total)
    share = ops.exp(rest[:, : num_classes - 1] - log_rest[:, None])
    factor = (
        1.0
        + largest_probability
        - ops.exp(log_rest - log_total) * ops.sum(ops.square(share), axis=-1)
    )
    return log_rest - log_total + ops.log(factor) - log_norm


def differential_entropy(logits: Tensor, num_classes: int) -> Tensor:
    """Differential entropy of Dir(exp(z)) of the known logits, computed in float64.

    Highest, -log (N - 1)!, where the distribution over the class probabilities is flat.
    Logits beyond -50..50 count as at that end.
    """
    known, _ = split(logits, num_classes)
    return ops.cast(dirichlet.entropy(dirichlet.concentrations(known)), "float32")


def split(logits: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Float32 `(known (batch, N), unknown (batch, 0 or 1))` parts of the logits.

    Raises:
        ValueError: there are neither `num_classes` nor `num_classes + 1` logits.
    """
    logits = ops.cast(logits, "float32")
    if len(logits.shape) == 2 and logits.shape[-1] == 1 and num_classes == 2:
        raise ValueError(
            "expected a logit for each of the 2 known classes, or 3 with an unknown "
            "class. Received: one for both. Give the last layer 2 units, whose softmax "
            "is the sigmoid of their difference; detectors and ood-adopt take a "
            "trained network of one logit as it is"
        )
    if len(logits.shape) != 2 or logits.shape[-1] not in (num_classes, num_classes + 1):
        raise ValueError(
            f"expected logits of shape (batch, {num_classes}), or (batch, "
            f"{num_classes + 1}) with an unknown class, for num_classes={num_classes}. "
            f"Received: shape {tuple(logits.shape)}"
        )
    return logits[:, :num_classes], logits[:, num_classes:]


def predict(logits: Tensor, num_classes: int) -> Tensor:
    """One-hot `(batch, N)` of the largest known logit; equal ones share the 1."""
    known = split(logits, num_classes)[0]
    largest = known == ops.max(known, axis=-1, keepdims=True)
    largest = ops.cast(largest, "float32")
    return largest / ops.sum(largest, axis=-1, keepdims=True)


def expm1(x: Tensor) -> Tensor:
    """`exp(x) - 1` with all digits near 0, of operations that ONNX and TFLite have."""
    return ops.tanh(x / 2.0) * (ops.exp(x) + 1.0)


def log1p(x: Tensor) -> Tensor:
    """`log(1 + x)` for x > -1, as `expm1`.

    Near 0 it is the series of 2 artanh(x / (2 + x)). The usual trick, to put the
    rounding of 1 + x back, does not survive TensorFlow's graph optimizer.
    """
    small = ops.abs(x) < 0.5
    near = ops.where(small, x, 0.0)
    ratio = near / (2.0 + near)
    square = ops.square(ratio)
    series = 1.0 / 13.0
    for number in (11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
        series = series * square + 1.0 / number
    return ops.where(small, 2.0 * ratio * series, ops.log(1.0 + x))


def arcsinh(x: Tensor) -> Tensor:
    """`log(x + sqrt(x^2 + 1))`, all digits near 0, of operations as for `expm1`."""
    size = ops.abs(x)
    # Squares of larger numbers have no end in float32.
    near = ops.minimum(size, 1e6)
    grown = near + ops.square(near) / (1.0 + ops.sqrt(ops.square(near) + 1.0))
    far = ops.log(ops.maximum(size, 1.0)) + math.log(2.0)
    return ops.sign(x) * ops.where(size < 1e6, log1p(grown), far)


def get(name: str) -> Callable[..., Tensor]:
    """The score function called `name`; an unknown name lists the known ones."""
    if name not in _FUNCTIONS:
        raise ValueError(
            f"unknown score {name!r}; expected one of: {', '.join(sorted(_FUNCTIONS))}"
        )
    return _FUNCTIONS[name]


def _largest_and_rest(known: Tensor, unknown: Tensor) -> tuple[Tensor, Tensor]:
    """The largest known logit `(batch, 1)` and all the others, known ones first."""
    ordered = ops.top_k(known, known.shape[-1])[0]
    return ordered[:, :1], ops.concatenate([ordered[:, 1:], unknown], axis=-1)


def _log_probabilities(
    logits: Tensor, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the softmax over the known logits, the largest first, none rounded to 0 or 1.

    Returns:
        `log(p)` `(batch, N)`, descending; `log(1 - p_1)` `(batch, 1)`; and
        `log(-log(p_1))` `(batch, 1)`.
    """
    known, unknown = split(logits, num_classes)
    largest, rest = _largest_and_rest(known, unknown[:, :0])
    log_odds = ops.logsumexp(rest, axis=-1, keepdims=True) - largest
    minus_log_largest = ops.softplus(log_odds)
    log_p = ops.concatenate(
        [-minus_log_largest, rest - largest - minus_log_largest], axis=-1
    )
    # Far below 0, softplus(x) has no digits left, but its logarithm has a short series.
    far = log_odds < -5.0
    odds = ops.exp(log_odds)
    log_minus_log_largest = ops.where(
        far,
        log_odds - odds / 2.0 + 5.0 * ops.square(odds) / 24.0,
        ops.log(ops.softplus(ops.maximum(log_odds, -5.0))),
    )
    return log_p, log_odds - minus_log_largest, log_minus_log_largest


_FUNCTIONS = {
    function.__name__: function
    for function in (
        unknown_probability,
        msp,
        max_logit,
        energy,
        entropy,
        gen,
        objectosphere,
    )
}
