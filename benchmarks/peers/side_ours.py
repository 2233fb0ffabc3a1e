"""The worker that runs `ood_keras`, in this repository's environment."""

import keras
import network
import numpy as np
import protocol
import tensorflow as tf

import ood_keras
from ood_keras import detectors
from ood_keras.detectors.compiled import compile_function, over_batches

GRAM = {"layers": list(network.INNER_LAYERS), "num_powers": 10}

DETECTORS = {
    "msp": ("msp", {}),
    "max_logit": ("max_logit", {}),
    "energy": ("energy", {}),
    "entropy": ("entropy", {}),
    "gen": ("gen", {"gamma": 0.1}),
    "odin": ("odin", {"epsilon": 0.0014, "temperature": 1000.0}),
    "kl_matching": ("kl_matching", {}),
    "openmax": ("openmax", {"tail_size": 20}),
    "mahalanobis": ("mahalanobis", {}),
    "mahalanobis_perturbed": ("mahalanobis", {"perturbation": 0.002}),
    "relative_mahalanobis": ("relative_mahalanobis", {}),
    # Its bank holds 10,000 of the 50,000 images that the peers keep: the same share.
    "knn": ("knn", {"k": 10}),
    # All that the peers keep.
    "knn_whole_bank": ("knn", {"k": 50, "bank_size": 50_000}),
    "knn_two_layers": (
        "ensemble",
        {
            "detectors": [
                {"name": "knn", "k": 10},
                {"name": "knn", "k": 10, "features": network.LAYER_BEFORE_FEATURES},
            ]
        },
    ),
    "vim": ("vim", {"dimension": 64}),
    "vim_mean_origin": ("vim", {"dimension": 64, "origin": "mean"}),
    "she": ("she", {}),
    "gram": ("gram", GRAM),
    "gram_1_percent": ("gram", {**GRAM, "quantile": 0.01}),
    "gram_min_max": ("gram", {**GRAM, "quantile": 0.0}),
    "nnguide": ("nnguide", {"k": 10}),
    "fdbd": ("fdbd", {}),
    "react": ("react", {"quantile": 0.9}),
    "ash": ("ash", {"percentile": 0.9, "treatment": "scale"}),
    "scale": ("scale", {"percentile": 0.85}),
    "dice": ("dice", {"sparsity": 0.9}),
    # Its weight has to be named there; 0.01 is one of those that pytorch-ood tries.
    "nci": ("nci", {"alpha": 0.01}),
    "lts": ("lts", {"percentile": 0.95}),
    "vra": ("vra", {"low": 0.05, "high": 0.95}),
}


class Ours:
    def versions(self):
        return {
            "ood_keras": ood_keras.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
        }

    def load(self, weights):
        self.model = network.from_weights(weights)
        self._logits = compile_function(self.model)

    def names(self):
        return list(DETECTORS)

    def logits(self, images, batch_size):
        # As `Detector.score` runs a network.
        batches = (
            images[start : start + batch_size]
            for start in range(0, len(images), batch_size)
        )
        return np.concatenate(list(over_batches(self._logits, batches)))

    def fit(self, name, images, labels, batch_size):
        name, arguments = DETECTORS[name]
        self.detector = detectors.get(name, **arguments)
        self.detector.fit(self.model, (images, labels))

        @tf.function(jit_compile=False, reduce_retracing=True)
        def score_features(features):
            return self.detector.score_outputs({"features": features})

        self._score_features = score_features

    def score(self, images, batch_size):
        return self.detector.score(images, batch_size)

    def score_features(self, features, batch_size):
        return protocol.in_batches(
            lambda batch: self._score_features(tf.constant(batch)), features, batch_size
        )


if __name__ == "__main__":
    protocol.serve(Ours())
