"""Which way handwritten characters stand: EMNIST's publisher ships them transposed.

EMNIST's files hold each image with its rows and columns exchanged, TensorFlow Datasets
hands them on so, and copies of either kind are in use under the same names. A few
images tell: a small network, trained on upright letters and digits by
`benchmarks/emnist_orientation.py`, says how much more likely an image is upright than
transposed.
"""

import dataclasses
import functools
import importlib.resources
import json
import pathlib

import numpy as np

from ood_keras import resizing
from ood_keras.pipelines.sources import base
from ood_keras.pipelines.split import Split

# A file of this name beside the images, holding one of these words, decides.
MARKER = "orientation.txt"
UPRIGHT, TRANSPOSED = "upright", "transposed"

WEIGHTS = "upright.json"
# The network's images, and how many are looked at.
SHAPE = (14, 14, 1)
_MAX_IMAGES = 2000
# One strange image must not decide alone: each counts for at most so much.
_MAX_EVIDENCE = 5.0
# Natural logarithm of the odds; images must also agree, by a t test.
_MIN_EVIDENCE, _MIN_T, _MIN_MEAN = 10.0, 3.0, 0.3
_MAX_MARKER_BYTES = 100


@dataclasses.dataclass(frozen=True)
class Expected:
    """What is known about a file before its images are looked at.

    Args:
        name: What messages call the file.
        otherwise: How the images stand if their content does not tell.
        sure: Whether `otherwise` is no guess, as with the publisher's own names.
        marked: What the user says, `UPRIGHT` or `TRANSPOSED`, or `None`.
    """

    name: str
    otherwise: str
    sure: bool = False
    marked: str | None = None


def upright(images: np.ndarray, expected: Expected) -> np.ndarray:
    """Returns handwritten characters as one reads them.

    Args:
        images: uint8 `(num_images, height, width, channels)`, upright or transposed.
        expected: The `Expected`.

    Returns:
        The same images, or all of them transposed.

    Warns:
        DataWarning: neither the images nor the file's name tell; or what the user said
            is not what the images show.
    """
    found = judge(images)
    says = expected.marked or found or expected.otherwise
    if expected.marked and found and found != expected.marked:
        base.warn(
            f"{expected.name}: {MARKER} says {expected.marked}, but the images look "
            f"{found}. They are taken for {expected.marked}; if that is wrong, change "
            f"{MARKER}"
        )
    elif says is expected.otherwise and not (found or expected.sure):
        base.warn(
            f"{expected.name}: it cannot be told whether these {len(images)} images "
            "stand upright or are transposed, rows for columns, as EMNIST's publisher "
            f"ships them. They are taken for {says}. Look at some, then write upright "
            f"or transposed into a file {MARKER} beside them"
        )
    if says == UPRIGHT:
        return images
    return np.ascontiguousarray(images.transpose(0, 2, 1, 3))


def warn_if_transposed(spec: str, split: Split) -> None:
    """Says so if the images of a source that turns none lie on their side.

    Args:
        spec: The source.
        split: Images of handwritten characters, as far as the name of their place
            tells.

    Warns:
        DataWarning: they look transposed.
    """
    if len(split) and split.image_shape[-1] in (1, 3):
        rows = np.linspace(0, len(split) - 1, min(len(split), _MAX_IMAGES)).astype(int)
        images = np.asarray(split.images[np.unique(rows)])
        dark_on_bright = np.median(images) > 127
        if judge(255 - images if dark_on_bright else images) == TRANSPOSED:
            base.warn(
                f"{spec}: these images look transposed, rows for columns, as EMNIST's "
                "publisher ships letters and digits. They are used as they are; if "
                f"they lie on their side, give {spec}@{TRANSPOSED}"
            )


def judge(images: np.ndarray) -> str | None:
    """Returns `UPRIGHT` or `TRANSPOSED` if images of characters tell, else `None`."""
    if not len(images) or images.shape[1] != images.shape[2]:
        return None
    rows = np.linspace(0, len(images) - 1, min(len(images), _MAX_IMAGES)).astype(int)
    each = evidence(images[np.unique(rows)]).clip(-_MAX_EVIDENCE, _MAX_EVIDENCE)
    total, mean = each.sum(), each.mean()
    t = abs(mean) / (each.std() / np.sqrt(len(each)) + 1e-6)
    if abs(total) < _MIN_EVIDENCE or abs(mean) < _MIN_MEAN or t < _MIN_T:
        return None
    return UPRIGHT if total > 0 else TRANSPOSED


def evidence(images: np.ndarray) -> np.ndarray:
    """Returns each image's logarithm of the odds of upright to transposed, float64.

    It changes its sign, and nothing else, when the image is transposed.

    Args:
        images: uint8 `(num_images, size, size, channels)`, bright on dark.
    """
    pixels = resizing.adapt(images, SHAPE)[..., 0] / 255.0
    hidden, output = _weights()

    def network(pixels):
        return np.maximum(pixels.reshape(len(pixels), -1) @ hidden, 0) @ output

    return network(pixels) - network(pixels.transpose(0, 2, 1))


def read_marker(folder: pathlib.Path) -> str | None:
    """Returns what a folder's `MARKER` says, or `None` without one.

    Raises:
        ValueError: it says something else.
    """
    path = folder / MARKER
    if not path.is_file():
        return None
    with path.open("rb") as file:
        text = file.read(_MAX_MARKER_BYTES).decode("utf-8", "replace").strip()
    if text.casefold() not in (UPRIGHT, TRANSPOSED):
        raise ValueError(
            f"{path} must hold the word {UPRIGHT} or {TRANSPOSED}. Received: {text!r}"
        )
    return text.casefold()


@functools.cache
def _weights() -> tuple[np.ndarray, np.ndarray]:
    """The network: 14 x 14 pixels, rectified hidden units, one output, no biases."""
    text = importlib.resources.files(__package__).joinpath(WEIGHTS).read_text()
    stored = json.loads(text)
    hidden = np.array(stored["hidden"]) * stored["hidden_unit"]
    return hidden, np.array(stored["output"]) * stored["output_unit"]
