"""The scores of all detectors, written slowly in NumPy: one image at a time, float64.

Nothing here is shared with the package; each function follows its paper's formula.
"""

import math

import numpy as np


def softmax(logits):
    logits = np.asarray(logits, np.float64)
    exponentials = [math.exp(value - max(logits)) for value in logits]
    return np.array([value / sum(exponentials) for value in exponentials])


def unknown_probability(logits, num_classes):
    """Higher with the probability of the last class: its log-odds."""
    scores = []
    for row in logits:
        probabilities = softmax(row)
        known = sum(probabilities[:num_classes])
        scores.append(math.log(probabilities[num_classes]) - math.log(known))
    return np.array(scores)


def msp(logits, num_classes, temperature=1.0):
    scores = []
    for row in logits:
        probabilities = list(softmax(np.asarray(row, np.float64) / temperature))
        largest = max(probabilities[:num_classes])
        probabilities.remove(largest)
        scores.append(math.log(sum(probabilities)) - math.log(largest))
    return np.array(scores)


def max_logit(logits, num_classes):
    return np.array([-max(row[:num_classes]) for row in logits])


def energy(logits, num_classes, temperature=1.0):
    return np.array(
        [
            -temperature
            * math.log(
                sum(math.exp(float(value) / temperature) for value in row[:num_classes])
            )
            for row in logits
        ]
    )


def objectosphere(logits, num_classes):
    scores = []
    for row in logits:
        square = sum(value**2 for value in softmax(row)[:num_classes])
        scores.append(math.log1p(-square) - math.log(square))
    return np.array(scores)
