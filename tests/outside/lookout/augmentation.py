"""Mirror images."""

import tensorflow as tf

from ood_keras import pipelines


@pipelines.augmentations.register
def random_mirror(images, seed):
    """Turns half of the images upside down."""
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed)
    return tf.where(draws < 0.5, tf.reverse(images, [1]), images)
