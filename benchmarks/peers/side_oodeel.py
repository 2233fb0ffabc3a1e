"""The worker that runs oodeel, in an environment of its own; see README.md.

With the argument `defaults`, its detectors get no arguments.
"""

import importlib.metadata
import sys

import faiss
import keras
import network
import numpy as np
import protocol
import tensorflow as tf
from oodeel import methods

FEATURES = ["features"]

# A constructor and the layers it reads. Perturbations that oodeel switches on by
# default are off unless the detector is one that is meant to perturb.
DETECTORS = {
    "msp": (lambda: methods.MLS(output_activation="softmax"), []),
    "max_logit": (lambda: methods.MLS(), []),
    "energy": (lambda: methods.Energy(), []),
    "entropy": (lambda: methods.Entropy(), []),
    "gen": (lambda: methods.GEN(gamma=0.1), []),
    "odin": (lambda: methods.ODIN(eps=0.0014, temperature=1000), []),
    "mahalanobis": (lambda: methods.Mahalanobis(eps=0.0), FEATURES),
    "mahalanobis_perturbed": (lambda: methods.Mahalanobis(eps=0.002), FEATURES),
    "relative_mahalanobis": (lambda: methods.RMDS(eps=0.0), FEATURES),
    "knn": (lambda: methods.DKNN(nearest=50), FEATURES),
    "knn_whole_bank": (lambda: methods.DKNN(nearest=50), FEATURES),
    "vim": (lambda: methods.VIM(princ_dims=64, pca_origin="pseudo"), FEATURES),
    "vim_mean_origin": (
        lambda: methods.VIM(princ_dims=64, pca_origin="center"),
        FEATURES,
    ),
    "she": (lambda: methods.SHE(eps=0.0), FEATURES),
    # From the 1 % to the 99 % quantile.
    "gram_1_percent": (
        lambda: methods.Gram(orders=list(range(1, 11))),
        list(network.INNER_LAYERS),
    ),
    "react": (lambda: methods.Energy(use_react=True, react_quantile=0.9), []),
    "ash": (lambda: methods.Energy(use_ash=True, ash_percentile=0.9), []),
    "scale": (lambda: methods.Energy(use_scale=True, scale_percentile=0.85), []),
}


DEFAULTS = {
    "odin": (methods.ODIN, []),
    "mahalanobis": (methods.Mahalanobis, FEATURES),
    "relative_mahalanobis": (methods.RMDS, FEATURES),
    "vim": (methods.VIM, FEATURES),
    "she": (methods.SHE, FEATURES),
}


class Oodeel:
    def __init__(self, detectors):
        self.detectors = detectors

    def versions(self):
        return {
            "oodeel": importlib.metadata.version("oodeel"),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "faiss": faiss.__version__,
            "numpy": np.__version__,
        }

    def load(self, weights):
        self.weights = weights
        # As oodeel's own feature extractor runs it.
        self._logits = tf.function(network.from_weights(weights))

    def names(self):
        return list(self.detectors)

    def logits(self, images, batch_size):
        return protocol.in_batches(
            lambda batch: self._logits(tf.constant(batch)), images, batch_size
        )

    def fit(self, name, images, labels, batch_size):
        make, layers = self.detectors[name]
        self.detector = make()
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)
        # A model of its own for each detector, since `fit` changes the model it gets.
        self.detector.fit(
            network.from_weights(self.weights), data, feature_layers_id=list(layers)
        )

    def score(self, images, batch_size):
        # Faster than handing over a tf.data.Dataset, which `score` also takes.
        return protocol.in_batches(
            lambda batch: self.detector.score(tf.constant(batch))[0], images, batch_size
        )

    def score_features(self, features, batch_size):
        # What `score` does after running the network.
        return protocol.in_batches(
            lambda batch: self.detector._score_layer(0, tf.constant(batch), {}),
            features,
            batch_size,
        )


if __name__ == "__main__":
    protocol.serve(Oodeel(DEFAULTS if "defaults" in sys.argv else DETECTORS))
