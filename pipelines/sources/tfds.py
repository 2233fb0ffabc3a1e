"""TensorFlow Datasets, never waiting minutes for a network that is not there."""

from ood_keras.pipelines.sources import base


def open_instead(request, looked_for, **options):
    raise base.not_found(request, looked_for)
