"""Models that come with the package."""

import importlib.resources
import pathlib

from ood_keras.inference import manifest
from ood_keras.types import Path

# What ships, and nothing else that was exported beside it into a checkout. The files
# .gitignore and setup.cfg say it too.
VERSIONS = {"fashion_mnist": (1, 2), "mnist": (1, 2, 3)}


def shipped(name: str) -> pathlib.Path:
    """The folder of a trained model that comes with the package.

    Args:
        name: "mnist" or "fashion_mnist".

    Returns:
        `DIR/VERSION`, a `pathlib.Path`, of the newest version that ships. Versions that
        somebody exported beside it, in a checkout, are opened by their path alone.

    Raises:
        FileNotFoundError: there is no such model; the error lists those there are.

    Example:

    >>> export.load("mnist").predict(images)["label"]  # opens shipped("mnist")
    array(['7', '__unknown__', '2'], dtype=object)
    """
    versions = _versions(name)
    if not versions:
        raise FileNotFoundError(
            f"no model {str(name)!r} comes with ood_keras. {_hint()}"
        )
    return versions[-1]


def names() -> list[str]:
    """The names that `shipped` takes, sorted."""
    return [name for name in sorted(VERSIONS) if _versions(name)]


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


def _versions(name: str) -> list[pathlib.Path]:
    """The folders of a model's versions that ship and are there, the newest last."""
    folder = pathlib.Path(str(importlib.resources.files("ood_keras.saved_models")))
    paths = [folder / name / str(version) for version in VERSIONS.get(name, ())]
    return [path for path in paths if (path / manifest.NAME).is_file()]


def _hint() -> str:
    return (
        "Models that come with ood_keras go by their name: "
        f"{', '.join(names()) or 'none in this installation'}"
    )
