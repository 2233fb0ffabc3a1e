"""Hyper-parameters of detectors, chosen from a small grid on validation images."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ood_keras import batches, detectors, metrics
from ood_keras.evaluation.selection import rank
from ood_keras.types import Images

if TYPE_CHECKING:
    import keras

# From the grids of Lee et al. 2018, in the units of the images, [0, 1].
TEMPERATURES: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0)
ODIN_STEPS: tuple[float, ...] = (0.0, 0.001, 0.002, 0.005, 0.01, 0.05)
MAHALANOBIS_STEPS: tuple[float, ...] = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01)


def tune_odin(
    model: "keras.Model",
    *,
    num_classes: int,
    known: Images,
    unknown: Images,
    temperatures: Iterable[float] = TEMPERATURES,
    steps: Iterable[float] = ODIN_STEPS,
    num_images: int = 1000,
) -> detectors.ODIN:
    """Returns ODIN with the temperature and the step that are best on validation.

    The protocol of Liang et al. 2018 and Lee et al. 2018: every pair of the grid is
    tried on a thousand known and a thousand unknown images, and the best one is taken
    as `select_detector` takes the best detector. Each temperature takes one gradient,
    whatever the number of steps.

    Args:
        model: A trained `keras.Model`.
        num_classes: N, the number of known classes.
        known: Known validation images, as anything that `ood_keras.batches.iterate`
            takes; labels are not read.
        unknown: Unknown validation images, never of a source that is tested on as
            unseen.
        temperatures: Of the softmax.
        steps: Lengths of the step, in the units of the images.
        num_images: How many images of each kind to look at, at equal distances.

    Returns:
        A fitted `detectors.ODIN`.

    Example:

    >>> detector = evaluation.tune_odin(
    ...     model, num_classes=10, known=x_known, unknown=x_unknown
    ... )
    >>> detector.epsilon
    0.002
    """
    steps = tuple(steps)
    known, unknown = _some(known, num_images), _some(unknown, num_images)
    found = {}
    for temperature in temperatures:
        tried = detectors.ODIN(num_classes=num_classes, temperature=temperature)
        tried.fit(model)
        of_known, of_unknown = (
            tried.score_steps(images, steps) for images in (known, unknown)
        )
        for index, step in enumerate(steps):
            scores = of_known[:, index], of_unknown[:, index]
            found[temperature, step] = rank(metrics.evaluate_scores(*scores))
    temperature, step = min(found, key=lambda pair: found[pair])
    tuned = detectors.ODIN(
        num_classes=num_classes, temperature=temperature, epsilon=step
    )
    return tuned.fit(model)


def tune_mahalanobis(
    model: "keras.Model",
    data: Images,
    *,
    num_classes: int,
    known: Images,
    unknown: Images,
    layer_sets: Iterable[Sequence[str] | None] = (None,),
    steps: Sequence[float] = MAHALANOBIS_STEPS,
    num_images: int = 1000,
) -> detectors.Mahalanobis:
    """Returns Mahalanobis with the layers and the step that are best on validation.

    The protocol of Lee et al. 2018: for every step, a logistic regression over the
    layers is fitted on the validation images, and the best combination is taken as
    `select_detector` takes the best detector.

    Args:
        model: A trained `keras.Model`.
        data: Labelled known training images, from which the Gaussians are learnt.
        num_classes: N, the number of known classes.
        known: Known validation images; see `tune_odin`.
        unknown: Unknown validation images; see `tune_odin`.
        layer_sets: Lists of layers to try, each as `detectors.Mahalanobis` takes it.
        steps: Lengths of the perturbation, in the units of the images.
        num_images: How many images of each kind to look at, at equal distances.

    Returns:
        A fitted `detectors.Mahalanobis`.
    """
    known, unknown = _some(known, num_images), _some(unknown, num_images)
    found = []
    for layers in layer_sets:
        config = {"num_classes": num_classes, "layers": layers}
        fitted: Any = detectors.get("mahalanobis", **config).fit(model, data)
        of_known, of_unknown = (
            fitted.measure_steps(images, steps) for images in (known, unknown)
        )
        for index, step in enumerate(steps):
            candidate: Any = detectors.get("mahalanobis", perturbation=step, **config)
            candidate.restore(model, fitted.get_arrays(), num_classes)
            distances = of_known[:, index], of_unknown[:, index]
            if layers is not None and len(layers) > 1:
                candidate.weigh_by(*distances)
            scores = [candidate.combine(rows.T) for rows in distances]
            found.append((rank(metrics.evaluate_scores(*scores)), candidate))
    return min(found, key=lambda pair: pair[0])[1]


def _some(data: Images, num_images: int) -> np.ndarray:
    """At most `num_images` images of `data`, at equal distances, as one array."""
    images = np.concatenate([images for images, _ in batches.iterate(data)])
    if len(images) <= num_images:
        return images
    return images[np.arange(num_images) * len(images) // num_images]
