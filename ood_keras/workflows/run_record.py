"""The `run.json` of a run, checked before anything is made of it."""

import pathlib
import re
import reprlib
from typing import Any

import keras

from ood_keras import models, plugins
from ood_keras.conventions import is_integer
from ood_keras.training import recipes, run_directory
from ood_keras.types import Json, Path
from ood_keras.workflows.adoption import pixel_ranges, wrapping

_MISSING_CLASS = re.compile(r"Could not locate (?:class|function) '([^']*)'")
# Of packages that Keras imports by itself, it says it in other words.
_MISSING_HUB = re.compile(
    r"Could not deserialize (?:class|function) '([^']*)' because its parent module "
    r"keras_hub\b"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read(run_dir: pathlib.Path) -> Json:
    """Returns what the `run.json` of a folder holds.

    Args:
        run_dir: The folder of the run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON, or does not say how the run was trained; the message
            names every entry that is wrong. Or nothing is registered here under a name
            that its recipe holds, which the message says.
    """
    run = run_directory.read(run_dir)
    _check(pathlib.Path(run_dir) / "run.json", run)
    return run


# A SavedModel that was adopted, and what it was wrapped by.
SAVED_MODEL = "network"
_MODEL = "model.keras"


def has_model(run_dir: pathlib.Path) -> bool:
    """Whether a folder holds the model of a run."""
    return (run_dir / _MODEL).is_file() or (run_dir / SAVED_MODEL).is_dir()


def load_model(run_dir: Path) -> keras.Model:
    """Returns the trained model of a run, in float32.

    Args:
        run_dir: The folder of the run.

    Raises:
        ValueError: it holds a class of one's own, such as a layer or a loss, that is
            not registered with Keras here, or of KerasHub, which is not installed.
    """
    run_dir = pathlib.Path(run_dir)
    path = run_dir / _MODEL
    if not path.is_file() and (run_dir / SAVED_MODEL).is_dir():
        adopted = read(run_dir)["settings"]["adopted"]
        return wrapping.wrap_saved_model(
            run_dir / SAVED_MODEL,
            pixel_ranges.PixelRange(**adopted["pixels"]),
            tuple(adopted["image_shape"]),
            adopted["output"],
            adopted.get("gives"),
        )
    try:
        return models.in_float32(keras.models.load_model(path))
    except TypeError as error:
        of_hub = _MISSING_HUB.search(str(error))
        if of_hub is not None:
            raise ValueError(
                f"{path} holds a {of_hub[1]} of KerasHub, which cannot be imported. "
                "Install it, the extra `hub`: pip install keras-hub"
            ) from error
        missing = _MISSING_CLASS.search(str(error))
        if missing is None:
            raise
        raise plugins.UnknownNameError(
            f"{path} holds the class {missing[1]!r}, which is not registered with Keras"
        ) from error


def _check(path, run):
    """Raises unless `run.json` says what `train` recorded, value by value."""
    settings = run.get("settings")
    if not isinstance(settings, dict) or not {"known", "recipe"} <= settings.keys():
        raise ValueError(
            f"{path} has no settings of ood-train. A run that was trained otherwise is "
            "evaluated with ood_keras.evaluation.evaluate, from Python"
        )
    problems = [
        f"settings.{name} is {found}, expected {expected}"
        for name, (is_right, expected) in _RECORDED.items()
        if not is_right(settings.get(name))
        for found in [reprlib.repr(settings.get(name, "missing"))]
    ]
    if not is_integer(run.get("seed")):
        problems.append(f"seed is {run.get('seed')!r}, expected an integer")
    if isinstance(settings["recipe"], dict):
        try:
            recipes.Recipe(**settings["recipe"])
        except plugins.UnknownNameError as error:
            raise ValueError(f"{path}: {error}") from None
        except (TypeError, ValueError) as error:
            problems.append(f"settings.recipe is none: {error}")
    if problems:
        raise ValueError(
            f"{path} was changed by hand or is damaged: {'; '.join(problems)}. Put it "
            "back as it was, or train again into a new run_dir"
        )


def _is_list_of(kind):
    return lambda value: (
        isinstance(value, list)
        and all(isinstance(one, kind) and not isinstance(one, bool) for one in value)
    )


def _is_shape(value: Any) -> bool:
    return _is_list_of(int)(value) and len(value) == 3 and min(value) > 0


def _is_class_names(value: Any) -> bool:
    return _is_list_of(str)(value) and 0 < len(value) == len(set(value))


def _is_fingerprints(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, dict)
        and is_integer(one.get("images"))
        and isinstance(one.get("sha256"), str)
        and _SHA256.fullmatch(one["sha256"])
        for one in value.values()
    )


# The settings that `train` records: whether a value is one, and what is expected.
_RECORDED = {
    "known": (lambda value: isinstance(value, str), "the spec of a source"),
    "unknown": (_is_list_of(str), "a list of specs"),
    "data_dir": (
        lambda value: value is None or isinstance(value, str),
        "a folder or null",
    ),
    "image_shape": (
        lambda value: value is None or _is_shape(value),
        "[height, width, channels] or null",
    ),
    "class_names": (_is_class_names, "a list of different names"),
    "recipe": (lambda value: isinstance(value, dict), "the fields of a recipe"),
    "data": (
        lambda value: value is None or _is_fingerprints(value),
        "for each split its number of images and sha256, 64 digits",
    ),
}
