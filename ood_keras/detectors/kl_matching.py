"""Matching of softmax outputs with the typical output of each class."""

import numpy as np
from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import Sums
from ood_keras.types import Images, Outputs, Tensor


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
    least_classes = 2
    learns = True

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sums = Sums()
        for outputs, _ in self.known_batches(network, data):
            logits = outputs["logits"][:, : self.num_classes].astype(np.float64)
            exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
            predicted = np.eye(self.num_classes)[logits.argmax(axis=1)]
            sums.add_sums(
                len(logits),
                counts=predicted.sum(axis=0),
                probabilities=predicted.T @ probabilities,
            )
        return {"sums": sums}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        sums = statistics["sums"]
        counts = sums.sum("counts")
        is_predicted = counts > 0
        typical = sums.sum("probabilities")[is_predicted] / counts[is_predicted, None]
        # The smallest float32 stands for what float64 rounds to 0 or float32 would.
        log_typical = np.log(np.maximum(typical, np.finfo(np.float32).tiny))
        self.arrays = {"log_typical": log_typical.astype(np.float32)}

    def score_outputs(self, outputs: Outputs) -> Tensor:
        known, _ = output_scores.split(outputs["logits"], self.num_classes)
        log_p = ops.log_softmax(known, axis=-1)
        p = ops.exp(log_p)
        # p log(p) is 0 where p rounds to 0.
        minus_entropy = ops.sum(p * ops.maximum(log_p, -1e4), axis=-1)
        cross = ops.matmul(p, self.get_tensor("log_typical", transposed=True))
        return minus_entropy - ops.max(cross, axis=-1)
