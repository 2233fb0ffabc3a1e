"""The losses, one image at a time, in decimal arithmetic of fifty digits.

Written from the papers' equations: no trick for stability is needed here, since the
numbers hold every probability that float32 would round to 0 or 1.
"""

from decimal import Decimal, localcontext

import numpy as np


def _per_image(value):
    def all_images(labels, outputs, *args, **kwargs):
        values = []
        with localcontext() as context:
            context.prec = 50
            for label, row in zip(np.ravel(labels), outputs, strict=True):
                row = [Decimal(float(number)) for number in row]
                values.append(float(value(int(label), row, *args, **kwargs)))
        return np.array(values)

    return all_images


def _softmax(logits):
    """`(p, 1 - p)`, the latter as the sum of the others."""
    exponentials = [z.exp() for z in logits]
    total = sum(exponentials)
    p = [e / total for e in exponentials]
    not_p = [
        sum(exponentials[:k] + exponentials[k + 1 :]) / total for k in range(len(p))
    ]
    return p, not_p


@_per_image
def weighted_cross_entropy(label, logits, num_classes, beta, unknown_weight=None):
    p, not_p = _softmax(logits)
    y = num_classes if label == -1 else label
    true = -p[y].ln()
    others = -sum(not_p[k].ln() for k in range(num_classes + 1) if k != y)
    if label == -1:
        if unknown_weight is None:
            return (true + others) / num_classes
        return Decimal(unknown_weight) * (true + others)
    beta = Decimal(beta)
    return beta * true + (1 - beta) * others


@_per_image
def objectosphere_on_softmax(label, logits, num_classes, gamma):
    return _objectosphere(label, _softmax(logits)[0][:num_classes], gamma)


@_per_image
def objectosphere_on_features(label, features, num_classes, gamma):
    return _objectosphere(label, features, gamma)


def _objectosphere(label, vector, gamma):
    squared = sum(number * number for number in vector)
    if label == -1:
        return squared
    return max(Decimal(gamma) - squared.sqrt(), Decimal(0)) ** 2


@_per_image
def outlier_exposure(label, logits, num_classes, weight):
    p, _ = _softmax(logits)
    if label == -1:
        uniform = Decimal(1) / num_classes
        return -Decimal(weight) * sum(uniform * p_k.ln() for p_k in p)
    return -p[label].ln()


@_per_image
def extra_class_cross_entropy(label, logits, num_classes):
    return -_softmax(logits)[0][num_classes if label == -1 else label].ln()


@_per_image
def prior_network(label, logits, num_classes, concentration, weight, direction):
    alpha = [z.exp() for z in logits]
    target = [Decimal(1 + concentration * (k == label)) for k in range(num_classes)]
    value = _divergence(
        *((alpha, target) if direction == "reverse" else (target, alpha))
    )
    return value / concentration * (weight if label == -1 else 1)


def _divergence(left, right):
    """KL of two Dirichlet distributions, term by term of its definition."""
    value = _log_beta(right) - _log_beta(left)
    at_total = _digamma(sum(left))
    return value + sum(
        (a - b) * (_digamma(a) - at_total) for a, b in zip(left, right, strict=True)
    )


def _log_beta(alpha):
    return sum(map(_log_gamma, alpha)) - _log_gamma(sum(alpha))


def _log_gamma(x):
    """From log G(x) = log G(x + 1) - log x, and Stirling's series beyond 1000."""
    if x < 1000:
        product = Decimal(1)
        while x < 1000:
            product *= x
            x += 1
        return _log_gamma(x) - product.ln()
    two_pi = Decimal("6.28318530717958647692528676655900576839433879875021")
    bernoulli = [(1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6)]
    series = sum(
        Decimal(top) / bottom / (2 * i * (2 * i - 1)) / x ** (2 * i - 1)
        for i, (top, bottom) in enumerate(bernoulli, start=1)
    )
    return (x - Decimal("0.5")) * x.ln() - x + two_pi.ln() / 2 + series


def _digamma(x):
    step = x * Decimal("1e-15")
    return (_log_gamma(x + step) - _log_gamma(x - step)) / (2 * step)
