"""Many detectors fitted on one network, in few passes over the images."""

from collections.abc import Callable, Iterable

import keras

from ood_keras.detectors.base import Detector
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

    The network runs once over the images for all detectors that read its logits and
    features. Those that read inner layers, or that set a scale on their own scores, run
    it again. Each ends up as if it had been fitted by itself.

    Args:
        detectors: What `registry.build` takes: names, mostly.
        model: A trained `keras.Model`; it is not changed.
        data: Labelled known training images, as `Detector.fit` takes them.
        num_classes: N, the number of known classes.
        sample: Float images to try the model on, where it does not say its shape.
        progress: Called with the name of each detector before it is fitted.

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
    fitted: dict[str, Detector] = {}
    refused: dict[str, str] = {}
    with network.record(data):
        for description in detectors:
            name = description if isinstance(description, str) else None
            try:
                detector = build(description)
                name = detector.name
                progress(name)
                config = {**detector.get_config(), "num_classes": num_classes}
                detector = type(detector).from_config(config)
                detector._fit_network(network, data, None, num_classes)
            except (ValueError, TypeError, RuntimeError) as error:
                refused[str(name)] = str(error)
                continue
            detector.class_names = class_names_of(data)
            fitted[detector.name] = detector
    return fitted, refused
