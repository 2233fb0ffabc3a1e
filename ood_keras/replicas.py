"""How many copies of a model train side by side."""

import sys

import keras


def count_replicas() -> int:
    """The replicas of the `tf.distribute` strategy in scope, 1 where there is none."""
    if keras.backend.backend() != "tensorflow":
        return 1
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return 1
    return int(tensorflow.distribute.get_strategy().num_replicas_in_sync)
