"""What exported models answer: dicts of arrays with one row for each image."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ood_keras.conventions import UNKNOWN, UNKNOWN_LABEL, accepts
from ood_keras.types import Answer, ImageShape, Json


def join(parts: Sequence[Answer]) -> Answer:
    """The answers for several batches as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def labels_of(class_id: np.ndarray, class_names: Iterable[str]) -> np.ndarray:
    """The label of each class id, `UNKNOWN_LABEL` for -1."""
    return np.array([*class_names, UNKNOWN_LABEL], object)[class_id]


def at_threshold(
    answer: Answer, threshold: float, class_names: Iterable[str]
) -> Answer:
    """The answer that another threshold gives.

    Args:
        answer: What a model answered, at any threshold.
        threshold: Largest accepted `ood_score`, a number.
        class_names: Labels of the known classes, by class id.
    """
    # Without probabilities there is no answer to accept, whatever the threshold.
    usable = answer["valid"] & answer["probabilities"].any(axis=1)
    accepted = usable & accepts(answer["ood_score"], threshold)
    # The model's own choice goes first: probabilities may be equal by rounding.
    own, best = answer["class_id"], answer["probabilities"].argmax(axis=1)
    class_id = np.where(accepted, np.where(own == UNKNOWN, best, own), UNKNOWN)
    class_id = class_id.astype(np.int32)
    labels = labels_of(class_id, class_names)
    return {**answer, "class_id": class_id, "label": labels, "accepted": accepted}


def own_threshold(manifest: Json) -> float | tuple[float, ...]:
    """The threshold that a model decides by, or those of its classes."""
    threshold = manifest["threshold"]
    return tuple(threshold["values"]) if "values" in threshold else threshold["value"]


def operating_points(manifest: Json) -> dict[str, float]:
    """The thresholds that a model offers, `{name: value}`; older ones offer none."""
    points = manifest.get("operating_points", {})
    return {name: point["value"] for name, point in points.items()}


def threshold_value(threshold: float | str, points: Mapping[str, float]) -> float:
    """The number that `threshold` stands for: itself, or an operating point's.

    Raises:
        TypeError: it is neither one number nor a name.
        ValueError: there is no operating point of this name, or it is NaN.
    """
    if isinstance(threshold, str):
        if threshold not in points:
            raise ValueError(
                f"unknown operating point {threshold!r}; this model has: "
                f"{', '.join(points) or 'none'}. Give the threshold as a number, or "
                "name operating_points when you export or recalibrate"
            )
        return points[threshold]
    # `float` alone takes an array of one number too, bytes that say one, and true.
    is_one = np.ndim(threshold) == 0 and not isinstance(
        threshold, (bytes, bool, np.bool_)
    )
    try:
        value = float(threshold) if is_one else None
    except OverflowError:  # Of a whole number; as large a float is infinite.
        value = float("inf" if threshold > 0 else "-inf")
    except TypeError:
        value = None
    if value is None:
        raise TypeError(
            "expected one number, or the name of an operating point, as threshold for "
            f"all images. Received: an object of type {type(threshold).__name__}"
        )
    if np.isnan(value):
        raise ValueError("expected a number as threshold. Received: NaN")
    return value


def check_shape(images: np.ndarray, image_shape: ImageShape) -> np.ndarray:
    """Returns `images` if they have the axes `(num_images, *image_shape)`."""
    if images.shape[1:] != image_shape:
        raise ValueError(
            "expected images of shape (num_images, "
            f"{', '.join(map(str, image_shape))}). Received: {images.shape}"
        )
    return images


def check_contents(contents: Iterable[bytes], image_shape: ImageShape) -> None:
    """Raises unless `contents` are image files that can become such images."""
    if isinstance(contents, (bytes, str)) or not all(
        isinstance(content, bytes) for content in contents
    ):
        raise TypeError(
            "expected a list of bytes, the content of one image file each. "
            f"Received: {type(contents).__name__}"
        )
    if image_shape[-1] not in (1, 3):
        raise ValueError(
            "this model has no predict_bytes: image files have 1 or 3 channels, "
            f"and it takes {image_shape[-1]}. Use predict"
        )
