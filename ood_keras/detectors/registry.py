"""Detectors by name, on disk and off."""

import hashlib
import inspect
import io
import json
import pathlib

import numpy as np
from keras import ops

from ood_keras import files, npz
from ood_keras.detectors.ash import ASH
from ood_keras.detectors.base import Detector
from ood_keras.detectors.dice import DICE
from ood_keras.detectors.energy import Energy
from ood_keras.detectors.ensemble import Ensemble
from ood_keras.detectors.entropy import Entropy
from ood_keras.detectors.fdbd import FDBD
from ood_keras.detectors.gen import GEN
from ood_keras.detectors.gram import Gram
from ood_keras.detectors.kl_matching import KLMatching
from ood_keras.detectors.knn import KNN
from ood_keras.detectors.mahalanobis import Mahalanobis
from ood_keras.detectors.max_logit import MaxLogit
from ood_keras.detectors.msp import MSP
from ood_keras.detectors.network import image_shape
from ood_keras.detectors.nnguide import NNGuide
from ood_keras.detectors.objectosphere import Objectosphere
from ood_keras.detectors.odin import ODIN
from ood_keras.detectors.openmax import OpenMax
from ood_keras.detectors.react import ReAct
from ood_keras.detectors.relative_mahalanobis import RelativeMahalanobis
from ood_keras.detectors.scale import Scale
from ood_keras.detectors.she import SHE
from ood_keras.detectors.unknown_probability import UnknownProbability
from ood_keras.detectors.vim import ViM

_CLASSES = {
    detector.name: detector
    for detector in (
        UnknownProbability,
        MSP,
        MaxLogit,
        Energy,
        Entropy,
        GEN,
        KLMatching,
        Objectosphere,
        Mahalanobis,
        RelativeMahalanobis,
        KNN,
        ViM,
        SHE,
        Gram,
        OpenMax,
        NNGuide,
        FDBD,
        ODIN,
        ReAct,
        ASH,
        Scale,
        DICE,
        Ensemble,
    )
}


def names():
    """The names that `get` takes."""
    return list(_CLASSES)


def get(name, **hyper_parameters):
    """A new, unfitted detector.

    Args:
        name: One of `names()`.
        **hyper_parameters: Its constructor's arguments.

    Raises:
        ValueError: there is no such detector; the error lists those there are.
        TypeError: it has no such argument; the error lists those it has.

    Example:

    >>> detector = get("msp", num_classes=10, temperature=2.0)
    """
    if not isinstance(name, str) or name not in _CLASSES:
        raise ValueError(
            f"unknown detector {name!r}; expected one of: {', '.join(names())}"
        )
    expected = _arguments(_CLASSES[name])
    unknown = [argument for argument in hyper_parameters if argument not in expected]
    if unknown:
        raise TypeError(
            f"unknown argument of {name!r}: {', '.join(unknown)}; expected some of: "
            f"{', '.join(expected)}"
        )
    return _CLASSES[name](**hyper_parameters)


def build(description):
    """A new, unfitted detector from its name, another detector, or a dict.

    Args:
        description: A name; a `Detector`, whose arguments are taken; or a dict
            `{"name": ..., argument: value}`.

    Raises:
        TypeError: it is none of them.
    """
    if isinstance(description, Detector):
        return type(description).from_config(description.get_config())
    if isinstance(description, str):
        return get(description)
    if isinstance(description, dict) and "name" in description:
        return get(**description)
    raise TypeError(
        'a detector must be given as a name, a Detector or a dict {"name": ..., '
        f"argument: value}}. Received: {description!r}"
    )


def save(detector, folder):
    """Writes a fitted detector as `NAME.json` and `NAME.npz`, without pickle.

    Args:
        detector: A fitted `Detector`.
        folder: Where to; made if it is not there.

    Returns:
        The path of the JSON file.

    Raises:
        RuntimeError: the detector is not fitted.
        TypeError: it is, or holds, one of a class of your own, which `load` could not
            make again.
        OSError: the folder cannot be written.
    """
    arrays = detector.get_arrays()
    _check_registered(detector)
    folder = pathlib.Path(folder)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with files.atomic_file(folder / f"{detector.name}.npz") as path:
        path.write_bytes(buffer.getvalue())
    description = folder / f"{detector.name}.json"
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


def load(path, model):
    """The detector that `save` wrote, ready to score images with `model`.

    Args:
        path: The JSON file, or a folder that holds just one detector.
        model: The model that the detector was fitted on.

    Raises:
        FileNotFoundError: there is no detector.
        ValueError: the folder holds several, a file is damaged, or the model is not the
            one that the detector was fitted on: other logits, features or, if the
            detector has learnt something, weights.
    """
    path = _description(pathlib.Path(path))
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        content = path.with_suffix(".npz").read_bytes()
        if hashlib.sha256(content).hexdigest() != saved["arrays_sha256"]:
            raise ValueError("the arrays are not those that were saved with it")
        found = npz.read(io.BytesIO(content), "the arrays of a detector")
        detector = get(saved["detector"], **saved["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as a detector ({error}). Fit and save it again"
        ) from error
    # Only a model that does not say its input shape needs to be told.
    sample = np.random.default_rng(0).uniform(size=(2, *saved["image_shape"]))
    detector.restore(
        model,
        found,
        saved["num_classes"],
        sample if image_shape(model) is None else None,
    )
    sizes = {
        "num_logits": detector.network.num_logits,
        "feature_size": detector.network.feature_size,
    }
    expected = {key: saved[key] for key in sizes}
    if sizes != expected:
        raise ValueError(
            f"{path} was fitted on another model. Expected: {expected}. Received: "
            f"{sizes}"
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
    if weights not in (None, _weights_sha256(model, found)):
        raise ValueError(
            f"{path} was fitted on another model: the weights of this one differ, so "
            "that what was learnt does not hold for it. Load the model that it was "
            "fitted on, or fit a detector on this one"
        )
    return detector


def _weights_sha256(model, arrays):
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


def _check_registered(detector):
    """Raises a TypeError if a detector, or one inside of it, is not of this list."""
    if _CLASSES.get(detector.name) is not type(detector):
        raise TypeError(
            f"only the library's own detectors can be saved: {', '.join(names())}. "
            f"Received: a {type(detector).__name__}. Keep its `get_config()`, "
            "`get_arrays()` and `num_classes`, and use `from_config` and `restore`"
        )
    wrapped = [detector.detector] if hasattr(detector, "detector") else []
    for inner in getattr(detector, "detectors", wrapped):
        _check_registered(inner)


def _arguments(detector_class):
    """The names of the arguments of a detector's constructor and those of its bases."""
    return sorted(
        {
            name
            for part in detector_class.__mro__[:-1]
            for name, parameter in inspect.signature(part).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        }
    )


def _description(path):
    if path.is_file():
        return path
    found = sorted(file for file in path.glob("*.json") if file.stem in _CLASSES)
    if not found:
        raise FileNotFoundError(
            f"no detector in {path}: expected NAME.json and NAME.npz with NAME one of "
            f"{', '.join(names())}"
        )
    if len(found) > 1:
        raise ValueError(
            f"{path} holds several detectors; name one of: "
            f"{', '.join(str(file) for file in found)}"
        )
    return found[0]
