"""Detectors on disk, without pickle."""

import hashlib
import io
import json
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from ood_keras import files, npz, plugins
from ood_keras.conventions import check_num_classes, is_integer
from ood_keras.detectors.network import image_shape
from ood_keras.detectors.registry import get, is_registered, names
from ood_keras.types import Arrays, Path

if TYPE_CHECKING:
    import keras

    from ood_keras.detectors.base import Detector


def save(
    detector: "Detector", folder: Path, *, name: str | None = None
) -> pathlib.Path:
    """Writes a fitted detector as `NAME.json` and `NAME.npz`, without pickle.

    Args:
        detector: A fitted `Detector`.
        folder: Where to; made if it is not there.
        name: What to call the files instead, where a folder holds several detectors of
            one kind; `load` is then given the JSON file.

    Returns:
        The path of the JSON file.

    Raises:
        RuntimeError: the detector is not fitted.
        TypeError: it is, or holds, one of a class that is not registered, which `load`
            could not make again.
        OSError: the folder cannot be written.
    """
    arrays = detector.get_arrays()
    check_registered(detector)
    folder, name = pathlib.Path(folder), name or detector.name
    buffer = io.BytesIO()
    files.write_arrays(buffer, arrays)
    with files.atomic_file(folder / f"{name}.npz") as path:
        path.write_bytes(buffer.getvalue())
    description = folder / f"{name}.json"
    files.write_json(
        description,
        {
            "detector": detector.name,
            "config": detector.get_config(),
            "num_classes": detector.num_classes,
            "num_logits": detector.network.num_logits,
            "feature_size": detector.network.feature_size,
            "image_shape": detector.network.image_shape,
            "arrays_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
            "weights_sha256": _weights_sha256(detector.network.model, arrays),
        },
    )
    return description


def load(path: Path, model: "keras.Model") -> "Detector":
    """The detector that `save` wrote, ready to score images with `model`.

    Args:
        path: The JSON file, or a folder that holds just one detector.
        model: The model that the detector was fitted on.

    Raises:
        FileNotFoundError: there is no detector.
        ValueError: the folder holds several, a file is damaged, nothing is registered
            here under the detector's name, or the model is not the one that it was
            fitted on: other logits, features or, if it has learnt something, weights.
    """
    path = _description(pathlib.Path(path))
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        _check_description(saved)
        content = path.with_suffix(".npz").read_bytes()
        if hashlib.sha256(content).hexdigest() != saved["arrays_sha256"]:
            raise ValueError("the arrays are not those that were saved with it")
        arrays = npz.read(io.BytesIO(content), "the arrays of a detector")
        detector = get(saved["detector"], **saved["config"])
        given = detector.get_config()["num_classes"]
        if check_num_classes(saved["num_classes"], least=1) != (
            given or saved["num_classes"]
        ):
            raise ValueError(
                f"it says num_classes={saved['num_classes']}, and its config {given}"
            )
    except FileNotFoundError:
        raise
    except plugins.UnknownNameError as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:
        # A configuration by hand can fail in any way, and so can a damaged archive.
        raise ValueError(
            f"{path} cannot be read as a detector ({_describe(error)}). Fit and save "
            "it again"
        ) from error
    # Only a model that does not say its input shape needs to be told.
    sample = None
    if image_shape(model) is None:
        sample = np.random.default_rng(0).uniform(size=(2, *saved["image_shape"]))
    detector.restore(model, arrays, saved["num_classes"], sample)
    found = {
        "num_logits": detector.network.num_logits,
        "feature_size": detector.network.feature_size,
    }
    expected = {key: saved[key] for key in found}
    if found != expected:
        raise ValueError(
            f"{path} was fitted on another model. Expected: {expected}. Received: "
            f"{found}"
        )
    try:
        detector.call(detector.network.sample)
    except Exception as error:
        raise ValueError(
            f"{path} was fitted on another model: its arrays do not fit the layers "
            f"{', '.join(detector.layers)} of this one ({error})"
        ) from error
    # Files of earlier versions have none.
    weights = saved.get("weights_sha256")
    if weights not in (None, _weights_sha256(model, arrays)):
        raise ValueError(
            f"{path} was fitted on another model: the weights of this one differ, so "
            "that what was learnt does not hold for it. Load the model that it was "
            "fitted on, or fit a detector on this one"
        )
    return detector


def _check_description(saved: Any) -> None:
    """Raises a TypeError unless `saved` is of the form that `save` writes."""
    if not isinstance(saved, dict):
        raise TypeError(
            f"expected an object {{...}}. Received: a {type(saved).__name__}"
        )
    for key, kind, expected in _FIELDS:
        value = saved.get(key)
        # Files of earlier versions have no checksum of the weights.
        if key == "weights_sha256" and value is None:
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(
                f"{key!r} must be {expected}. Received: "
                + (repr(value) if key in saved else "nothing")
            )
    shape = saved["image_shape"]
    if len(shape) != 3 or not all(is_integer(size) and size >= 1 for size in shape):
        raise TypeError(
            f"'image_shape' must be [height, width, channels]. Received: {shape!r}"
        )


_FIELDS = (
    ("detector", str, "the name of a detector"),
    ("config", dict, "an object {...}, the arguments of the detector"),
    ("num_classes", int, "a whole number"),
    ("num_logits", int, "a whole number"),
    ("feature_size", int, "a whole number"),
    ("image_shape", list, "[height, width, channels]"),
    ("arrays_sha256", str, "a checksum, a text"),
    ("weights_sha256", str, "a checksum, a text, or null"),
)


def _describe(error: Exception) -> str:
    """What an error says, with its kind where that says more than the text."""
    text = str(error)
    if isinstance(error, (TypeError, ValueError)) and text:
        return text
    return f"{type(error).__name__}: {text}"


def _weights_sha256(model: "keras.Model", arrays: Arrays) -> str | None:
    """Tells one training of a model from another; `None` if nothing was learnt of it.

    The same on any backend, and after the model was saved and loaded.
    """
    if not arrays:
        return None
    # float32 holds all smaller types exactly; sorted, for the order of layers is free.
    parts = sorted(
        hashlib.sha256(ops.convert_to_numpy(weight).astype("<f4").tobytes()).digest()
        for weight in model.weights
    )
    return hashlib.sha256(b"".join(parts)).hexdigest()


def check_registered(detector):
    """Raises a TypeError if a detector, or one inside of it, is not registered."""
    if not is_registered(detector):
        raise TypeError(
            "only registered detectors can be saved, since `load` finds them by name: "
            f"{', '.join(names())}. Received: a {type(detector).__name__}. Decorate "
            "its class with `detectors.register`"
        )
    wrapped = [detector.detector] if hasattr(detector, "detector") else []
    for inner in getattr(detector, "detectors", wrapped):
        check_registered(inner)


def _description(path: pathlib.Path) -> pathlib.Path:
    if path.is_file():
        return path
    found = sorted(file for file in path.glob("*.json") if file.stem in names())
    if not found:
        raise FileNotFoundError(
            f"no detector in {path}: expected NAME.json and NAME.npz with NAME one of "
            f"{', '.join(names())}, or one of your own, once the module that registers "
            "it is imported"
        )
    if len(found) > 1:
        raise ValueError(
            f"{path} holds several detectors; name one of: "
            f"{', '.join(str(file) for file in found)}"
        )
    return found[0]
