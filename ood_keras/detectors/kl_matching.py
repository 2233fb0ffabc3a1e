"""Matching of softmax outputs with the typical output of each class."""

import numpy as np
from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.registry import register
from ood_keras.types import Outputs, Tensor


@register
class KLMatching(Detector):
    """Scores by how far the softmax is from the typical softmax of any class.

    Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings",
    ICML 2022: `d_k` is the mean softmax of the known images that are predicted as class
    k, and the score is `min_k KL(p || d_k)`. p is the softmax over the known logits.
    A class that is never predicted has no `d_k`. Higher is more unknown.

    Example:

    >>> detector = KLMatching().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "kl_matching"
    learns = True

    def _fit(self, network, data, validation):
        counts = np.zeros(self.num_classes)
        sums = np.zeros((self.num_classes, self.num_classes))
        for outputs, _ in self._known_batches(network, data):
            logits = outputs["logits"][:, : self.num_classes].astype(np.float64)
            exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
            predicted = np.eye(self.num_classes)[logits.argmax(axis=1)]
            counts += predicted.sum(axis=0)
            sums += predicted.T @ probabilities
        typical = sums[counts > 0] / counts[counts > 0, None]
        # The smallest float32 stands for what float64 rounds to 0 or float32 would.
        log_typical = np.log(np.maximum(typical, np.finfo(np.float32).tiny))
        self.arrays = {"log_typical": log_typical.astype(np.float32)}

    def score_outputs(self, outputs: Outputs) -> Tensor:
        known, _ = output_scores.split(outputs["logits"], self.num_classes)
        log_p = ops.log_softmax(known, axis=-1)
        p = ops.exp(log_p)
        # p log(p) is 0 where p rounds to 0.
        minus_entropy = ops.sum(p * ops.maximum(log_p, -1e4), axis=-1)
        cross = ops.matmul(p, ops.transpose(self._tensor("log_typical")))
        return minus_entropy - ops.max(cross, axis=-1)
