"""Models that come with the package."""

import importlib.resources
import pathlib

from ood_keras.inference import manifest
from ood_keras.inference.versions import next_version
from ood_keras.types import Path


def shipped(name: str) -> pathlib.Path:
    """The folder of a trained model that comes with the package.

    Args:
        name: "mnist" or "fashion_mnist".

    Returns:
        `DIR/VERSION`, a `pathlib.Path`, of the newest version.

    Raises:
        FileNotFoundError: there is no such model; the error lists those there are.

    Example:

    >>> export.load("mnist").predict(images)["label"]  # opens shipped("mnist")
    array(['7', '__unknown__', '2'], dtype=object)
    """
    if name not in names():
        raise FileNotFoundError(
            f"no model {str(name)!r} comes with ood_keras. {_hint()}"
        )
    return _folder() / name / str(next_version(_folder() / name) - 1)


def names() -> list[str]:
    """The names that `shipped` takes, sorted."""
    found = _folder().glob(f"*/*/{manifest.NAME}")
    return sorted({path.parents[1].name for path in found})


def locate(model: Path) -> pathlib.Path:
    """The folder of a model: `model` if it exists, else that of the shipped model.

    Args:
        model: `DIR/VERSION`, or the name of a shipped model.

    Raises:
        FileNotFoundError: it is neither.
    """
    path = pathlib.Path(model)
    if path.exists():
        return path
    if str(model) in names():
        return shipped(str(model))
    raise FileNotFoundError(
        f"{model} is not an exported model: there is no such folder. {_hint()}"
    )


def _folder() -> pathlib.Path:
    return pathlib.Path(str(importlib.resources.files("ood_keras.saved_models")))


def _hint() -> str:
    return (
        "Models that come with ood_keras go by their name: "
        f"{', '.join(names()) or 'none in this installation'}"
    )
