"""Fitting detectors, from the features of 10^3 to 10^6 images.

An image is a vector of 64 numbers around the mean of its class, ten in all, and the
network a dense layer of 64 units and ten logits, so that next to nothing but the
detector costs. Images are made in slices of 1,000 while they are asked for, and never
held. One side for a detector of each way to learn, and two beside them: `network`, one
pass of the same network over the same images with nothing learnt; and scikit-learn's
`EmpiricalCovariance` of the network's features less their class means, what
`mahalanobis` learns, which takes one array. That holds all in memory, and stops at
--most_held. Making the images is not counted; each size is fitted once.
`learned_confidence` trains for one epoch.
"""

import time

import numpy as np
from growth_parts import sides

SIZE, NUM_CLASSES, SLICE = 64, 10, 1000
FIRST, MOST, MOST_HELD = 10**3, 10**6, 10**6
PACKAGES = ("numpy", "scikit-learn", "tensorflow", "keras")
# `network` and `scikit_learn`, and a detector of each way to learn: sums, a second
# moment, a bank, the largest distances, and three that learn from a random sample.
SIDES = (
    "network",
    "scikit_learn",
    "mahalanobis",
    "vim",
    "knn",
    "openmax",
    "react",
    "one_class_svm",
    "learned_confidence",
)
# More epochs take longer, and learn from the same sample.
ARGUMENTS = {"learned_confidence": {"epochs": 1}}


class Images:
    """So many images, made slice by slice, the same in every walk; a dataset."""

    def __init__(self, count):
        self.count = count
        self.seconds = 0.0

    def __iter__(self):
        means = np.random.default_rng(0).normal(size=(NUM_CLASSES, SIZE))
        for start in range(0, self.count, SLICE):
            began = time.process_time()
            rng = np.random.default_rng((1, start))
            count = min(SLICE, self.count - start)
            labels = rng.integers(0, NUM_CLASSES, count)
            images = means[labels] + rng.standard_normal((count, SIZE), np.float32)
            batch = images.astype(np.float32).reshape(count, 1, 1, SIZE), labels
            self.seconds += time.process_time() - began
            yield batch


def make_network():
    """The network, with weights that tell most of the images apart."""
    import keras

    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((1, 1, SIZE)),
            keras.layers.Flatten(),
            keras.layers.Dense(SIZE, activation="relu"),
            keras.layers.Dense(NUM_CLASSES),
        ]
    )
    network.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for images, labels in Images(5 * SLICE):
        network.fit(images, labels, verbose=0)
    return network


def measure_side(side, most, most_held):
    """The rows of one side."""
    evaluate = {"network": pass_side, "scikit_learn": covariance_side}.get(side)
    evaluate = evaluate() if evaluate is not None else fit_side(side)
    last = min(most, most_held) if side == "scikit_learn" else most
    # Once for each size: what Keras keeps of one training adds to that of the next.
    return sides.measure(evaluate, sides.powers(FIRST, last), most_repeated=0)


def fit_side(name):
    from ood_keras import detectors

    network = make_network()

    def evaluate(size):
        images = Images(size)
        detector = detectors.get(
            name, num_classes=NUM_CLASSES, **ARGUMENTS.get(name, {})
        )
        began = time.process_time()
        detector.fit(network, images)
        seconds = time.process_time() - began - images.seconds
        return {"seconds": seconds}

    return evaluate


def pass_side():
    import tensorflow as tf

    run = tf.function(make_network(), reduce_retracing=True)

    def evaluate(size):
        images = Images(size)
        began = time.process_time()
        for batch, _ in images:
            run(batch).numpy()
        return {"seconds": time.process_time() - began - images.seconds}

    return evaluate


def covariance_side():
    import keras
    from sklearn.covariance import EmpiricalCovariance

    network = make_network()
    features_of = keras.Model(network.inputs[0], network.layers[-2].output)

    def evaluate(size):
        found = [
            (np.asarray(features_of(images)), labels) for images, labels in Images(size)
        ]
        features, labels = (
            np.concatenate(arrays) for arrays in zip(*found, strict=True)
        )
        del found
        began = time.process_time()
        for label in range(NUM_CLASSES):
            rows = labels == label
            features[rows] -= features[rows].mean(axis=0)
        EmpiricalCovariance(assume_centered=True).fit(features)
        return {"seconds": time.process_time() - began}

    return evaluate


def compare(found):
    """Adds to each row how much longer it took than a pass of the network."""
    for side, rows in found.items():
        for size, row in rows.items():
            if side not in ("network", "scikit_learn"):
                passed = found["network"][size]["seconds"]
                row["times_a_pass"] = round(row["seconds"] / passed, 2)
    return {"features": SIZE, "slice": SLICE, "sides": found}


def draw(found):
    """Seconds of the processor, and memory, against the number of images."""
    titles = {"seconds": "seconds of the processor", "mebibytes": "memory, MiB"}
    return sides.draw(found["sides"], titles, "images")
