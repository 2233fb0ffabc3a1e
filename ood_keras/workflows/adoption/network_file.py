"""Opens a network that was trained elsewhere, without running code of its file."""

import json
import pathlib
import re
from typing import Any

import keras

from ood_keras import plugins
from ood_keras.types import Path

_MISSING_CLASS = re.compile(r"Could not locate (?:class|function) '([^']*)'")
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
# What KerasHub writes beside its weights, and nobody else.
_PRESET = ("task.json", "preprocessor.json")
# What a .keras file holds, and what model.save("hf://...") puts on the Hub.
_UNPACKED = ("config.json", "model.weights.h5")


def load(path: Path) -> keras.Model | pathlib.Path:
    """Returns the network of a file or folder; of a SavedModel, its folder.

    A `.keras` or H5 file is opened in Keras's safe mode, which runs no code that the
    file brings. A folder is a SavedModel, what KerasHub's `save_to_preset` writes, or
    an unpacked `.keras` file, as Keras keeps networks on the Hugging Face Hub.

    Args:
        path: The file or folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is neither, it would run code, or it holds a class that is not
            registered here.
    """
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"there is no file or folder {path}. Expected a .keras or .h5 file, a "
            "SavedModel folder, a KerasHub preset folder or an unpacked .keras file"
        )
    if path.is_dir():
        if any((path / name).is_file() for name in _SAVED_MODEL):
            return path
        if any((path / name).is_file() for name in _PRESET):
            return _load_preset(path)
        if all((path / name).is_file() for name in _UNPACKED):
            if _is_backbone(path / _UNPACKED[0]):
                raise ValueError(
                    f"{path} is a KerasHub backbone without a classifying head. Give a "
                    "task that classifies, such as an ImageClassifier"
                )
            return _load_file(path)
        raise ValueError(
            f"{path} is no network: it holds neither {_SAVED_MODEL[0]} nor "
            f"{' or '.join(_PRESET)} nor {' and '.join(_UNPACKED)}. Expected a "
            "SavedModel (model.export of Keras 3), what save_to_preset of KerasHub "
            "writes, or an unpacked .keras file"
        )
    if path.suffix.lower() not in (".keras", ".h5", ".hdf5"):
        raise ValueError(
            f"{path} is no file of a Keras network. Expected .keras or .h5: save it "
            "with model.save('NAME.keras')"
        )
    return _load_file(path)


def _load_file(path: pathlib.Path) -> keras.Model:
    try:
        # Losses and metrics of one's own are not needed to look at images.
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        text = str(error)
        missing = _MISSING_CLASS.search(text)
        if missing:
            raise plugins.UnknownNameError(
                f"{path} holds the class {missing[1]!r}, which is not registered with "
                "Keras"
            ) from error
        if "arbitrary code execution" in text or "safe_mode" in text:
            raise ValueError(
                f"{path} would run code of its own on loading (a Lambda layer, "
                "mostly), and is refused: nobody can tell what it does. Replace the "
                "Lambda by a layer of Keras, or by a registered layer class, and save "
                "again; or load the file yourself, if you trust it, and give the "
                "model to ood_keras.adopt. Keras says: " + text.partition(". ")[0]
            ) from error
        raise ValueError(
            f"{path} cannot be read as a Keras network ({type(error).__name__}: "
            f"{text[:300]}). Expected what model.save('NAME.keras') wrote, weights "
            "and layers both"
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"{path} holds a {type(model).__name__} and no keras.Model. Give a network "
            "that classifies images"
        )
    return model


def _is_backbone(path: pathlib.Path) -> bool:
    """Whether a configuration is of a KerasHub backbone, which it keeps alike."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return (
        isinstance(config, dict)
        and str(config.get("module")).startswith("keras_hub.")
        and str(config.get("class_name")).endswith("Backbone")
    )


def _load_preset(path: pathlib.Path) -> keras.Model:
    try:
        import keras_hub
    except ImportError as error:
        raise ValueError(
            f"{path} is a KerasHub preset, and KerasHub cannot be imported ({error}). "
            "Install it: pip install keras-hub"
        ) from error
    hub: Any = keras_hub
    try:
        return hub.models.ImageClassifier.from_preset(str(path.absolute()))
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as an image classifier of KerasHub ({error}). "
            "Expected what save_to_preset of a task such as ResNetImageClassifier "
            "wrote, with its preprocessor"
        ) from error
