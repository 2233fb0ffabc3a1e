"""The Brier score as a loss, and the training method that uses it."""

import keras
from keras import ops

from ood_keras import training


@keras.saving.register_keras_serializable(package="lookout")
class Brier(keras.losses.Loss):
    """Squared distance to the one-hot class, and to the uniform of unknown images."""

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def call(self, y_true, y_pred):
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        target = ops.one_hot(ops.maximum(labels, 0), self.num_classes)
        target = ops.where(labels[:, None] < 0, 1 / self.num_classes, target)
        return ops.sum((ops.softmax(y_pred) - target) ** 2, axis=-1)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


@training.objectives.register
class BrierObjective(training.objectives.Objective):
    """Trains with the Brier score, by Adam."""

    name = "brier"
    description = "Brier 1950, over N classes"

    def build_loss(self, num_classes):
        return Brier(num_classes)

    def build_optimizer(self, steps_per_epoch):
        return keras.optimizers.Adam(self.build_schedule(steps_per_epoch))
