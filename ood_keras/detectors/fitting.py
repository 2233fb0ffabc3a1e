"""Many detectors fitted on one network, in one pass over the images."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

from ood_keras.detectors.base import Detector
from ood_keras.detectors.guest import Guest
from ood_keras.detectors.memory import class_names_of
from ood_keras.detectors.network import Network, check_model, image_shape
from ood_keras.detectors.registry import Description, build, by_name
from ood_keras.types import Images, Tensor


def fit_together(
    detectors: Iterable[Description] | Mapping[str, Description],
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
        detectors: What `registry.build` takes: names, mostly; or `{name: that}`, where
            one is wanted twice, with other arguments.
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
        ValueError: `model` is no classifier, two detectors have one name, or `data` has
            none of the known images.

    Example:

    >>> fitted, refused = fit_together(
    ...     ["energy", "knn", "vim"], model, (images, labels), num_classes=10
    ... )
    """
    check_model(model)
    network = Network(model, sample=sample if image_shape(model) is None else None)
    prepared: dict[str, Detector] = {}
    refused: dict[str, str] = {}
    for name, description in by_name(detectors).items():
        try:
            detector = build(description)
            config = {**detector.get_config(), "num_classes": num_classes}
            detector = type(detector).from_config(config)
            # Which inner layers it reads must be known before the network runs.
            detector._prepare_inner(network, num_classes)
            detector._prepare(network, num_classes)
            if detector.layers:
                # One that they cannot be had of must not keep the others from fitting.
                network(network.sample, detector.layers)
        except _REFUSALS as error:
            refused[name] = str(error)
            continue
        prepared[name] = detector
    fits: dict[str, Callable[[], Any]] = {
        name: functools.partial(one._fit_network, network, data, None, num_classes)
        for name, one in prepared.items()
    }
    # Whole maps are not kept, so those that read them take part in the one pass.
    guests = {
        name: Guest(data, fits[name])
        for name, one in prepared.items()
        if one.learns and one.layers and not one.pools_layers
    }
    pooled = {
        layer for one in prepared.values() if one.pools_layers for layer in one.layers
    }
    fitted: dict[str, Detector] = {}
    with network.record(data, tuple(pooled), tuple(guests.values())):
        for name, detector in prepared.items():
            progress(name)
            try:
                if name in guests:
                    guests[name].check()
                else:
                    fits[name]()
            except _REFUSALS as error:
                refused[name] = str(error)
                continue
            detector.class_names = class_names_of(data)
            fitted[name] = detector
    return fitted, refused


# What says that a detector does not fit a network.
_REFUSALS = (ValueError, TypeError, RuntimeError)
