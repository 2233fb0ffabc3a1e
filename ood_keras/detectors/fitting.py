"""Many detectors fitted on one network, in one pass over the images."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import keras

from ood_keras.detectors.base import Detector
from ood_keras.detectors.guest import Guest
from ood_keras.detectors.memory import class_names_of
from ood_keras.detectors.network import Network, check_model, image_shape
from ood_keras.detectors.registry import Description, build
from ood_keras.types import Images, Tensor


def fit_together(
    detectors: Iterable[Description],
    model: keras.Model,
    data: Images,
    *,
    num_classes: int,
    sample: Tensor | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> tuple[dict[str, Detector], dict[str, str]]:
    """Fits detectors on one network, and says which do not fit it and why.

    The network runs once over the images. Its logits and features, and the means of
    inner layers that detectors read, are kept in temporary files, from which all learn,
    also those that set a scale on their own scores; those that read whole maps (`gram`)
    learn while it runs. It runs again for an ensemble of which a member moves its input
    along a gradient, or reads features of its own; and where the means of inner layers
    take more than 2 GiB on the disk, for those that read them. Each detector ends up as
    if it had been fitted by itself.

    Args:
        detectors: What `registry.build` takes: names, mostly.
        model: A trained `keras.Model`; it is not changed.
        data: Labelled known training images, as `Detector.fit` takes them.
        num_classes: N, the number of known classes.
        sample: Float images to try the model on, where it does not say its shape.
        progress: Called with the name of each detector when its turn comes, after the
            network has run.

    Returns:
        `(fitted, refused)`: `{name: detector}`, and `{name: why it does not fit}`.

    Raises:
        TypeError: `model` is not a `keras.Model`.
        ValueError: `model` is no classifier, or `data` has none of the known images.

    Example:

    >>> fitted, refused = fit_together(
    ...     ["energy", "knn", "vim"], model, (images, labels), num_classes=10
    ... )
    """
    check_model(model)
    network = Network(model, sample=sample if image_shape(model) is None else None)
    prepared: list[Detector] = []
    refused: dict[str, str] = {}
    for description in detectors:
        name = description if isinstance(description, str) else None
        try:
            detector = build(description)
            name = detector.name
            config = {**detector.get_config(), "num_classes": num_classes}
            detector = type(detector).from_config(config)
            # Which inner layers it reads must be known before the network runs.
            detector._prepare_inner(network, num_classes)
            detector._prepare(network, num_classes)
            if detector.layers:
                # One that they cannot be had of must not keep the others from fitting.
                network(network.sample, detector.layers)
        except _REFUSALS as error:
            refused[str(name)] = str(error)
            continue
        prepared.append(detector)
    fits: list[Callable[[], Any]] = [
        functools.partial(one._fit_network, network, data, None, num_classes)
        for one in prepared
    ]
    # Whole maps are not kept, so those that read them take part in the one pass.
    guests = {
        index: Guest(data, fits[index])
        for index, one in enumerate(prepared)
        if one.learns and one.layers and not one.pools_layers
    }
    pooled = {name for one in prepared if one.pools_layers for name in one.layers}
    fitted: dict[str, Detector] = {}
    with network.record(data, tuple(pooled), tuple(guests.values())):
        for index, detector in enumerate(prepared):
            progress(detector.name)
            try:
                if index in guests:
                    guests[index].check()
                else:
                    fits[index]()
            except _REFUSALS as error:
                refused[detector.name] = str(error)
                continue
            detector.class_names = class_names_of(data)
            fitted[detector.name] = detector
    return fitted, refused


# What says that a detector does not fit a network.
_REFUSALS = (ValueError, TypeError, RuntimeError)
