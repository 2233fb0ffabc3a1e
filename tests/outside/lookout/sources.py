"""Bars and dots, and grey images."""

import dataclasses

import numpy as np

from ood_keras import pipelines


@pipelines.register(name="lookout/shapes", licence="CC0, drawn by lookout")
def open_shapes(request):
    """Bars and dots, which are known, with parts for training and for testing."""

    def draw(seed, count):
        random = np.random.default_rng(seed)
        images = random.integers(0, 40, (count, 28, 28, 1), dtype=np.uint8)
        labels = np.arange(count) % 2
        places = random.integers(2, 21, (count, 2))
        for image, label, (row, column) in zip(images, labels, places, strict=True):
            if label:
                image[row : row + 6, column : column + 6] = 250
            else:
                image[1:27, column : column + 2] = 250
        return images, labels

    readers = {"train": lambda: draw(0, 240), "test": lambda: draw(1, 80)}
    return pipelines.from_parts(request, ["bar", "dot"], readers)


@pipelines.register(name="grey", argument="LEVELS", is_made=True)
def open_grey(request):
    """Smooth ramps of `LEVELS` grey levels, which are unknown."""
    levels = int(request.argument)

    def generate(random, shape, role):
        ends = random.uniform(0, 255, (2, shape[0], 1, 1, 1))
        ramp = np.linspace(0, 1, shape[2])[:, None]
        images = ends[0] + (ends[1] - ends[0]) * np.floor(ramp * levels) / levels
        return (0.9 * images + random.integers(0, 25, shape)).astype(np.uint8)

    request = dataclasses.replace(request, count=request.count or 200)
    return pipelines.from_generator(request, (28, 28, 1), generate)
