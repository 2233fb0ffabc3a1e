"""A network that was given to be adopted, as it is."""

import dataclasses
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np

from ood_keras.detectors.network import check_model
from ood_keras.files import atomic_file
from ood_keras.types import ImageShape, Path
from ood_keras.workflows import run_record
from ood_keras.workflows.adoption import (
    network_file,
    other_inputs,
    pixel_ranges,
    wrapping,
)


@dataclasses.dataclass
class GivenNetwork:
    """A network that was given, as it is.

    Attributes:
        model: The `keras.Model`, or `None` of a SavedModel.
        folder: The SavedModel, or `None`.
        output: Name of the output that classifies, or `None`.
        shape: `(height, width, channels)`, or `None` if nothing says.
        declared: The pixels that it takes, or `None` if nobody says.
        declared_by: Who says so.
        gives: What a SavedModel gives, see `wrapping.tell_output`; `None` before
            `tell_output`, and of a network that can be looked into.
    """

    model: keras.Model | None
    folder: pathlib.Path | None
    output: str | None
    shape: ImageShape | None
    declared: pixel_ranges.PixelRange | None
    declared_by: str
    gives: str | None = None

    @classmethod
    def open(
        cls,
        model: keras.Model | Path,
        input_range: str | None = None,
        output: str | None = None,
        image_shape: Sequence[int] | None = None,
        constants: Mapping[str, Any] | Sequence[str] | None = None,
    ) -> Self:
        """Opens a network; arguments as of `adopt`, `constants` its `other_inputs`.

        Raises:
            FileNotFoundError: there is no such file.
            TypeError: it is no Keras model.
            ValueError: it cannot be read, or takes something else than one image.
        """
        shape: Any = None if image_shape is None else _as_shape(image_shape)
        declared, by = None, "--input_range"
        if input_range is not None:
            declared = pixel_ranges.parse(input_range)
        opened: Any = model
        if isinstance(model, (str, pathlib.PurePath)):
            opened = network_file.load(model)
        values = other_inputs.parse(constants)
        if isinstance(opened, pathlib.PurePath):
            if values:
                raise ValueError(
                    f"{opened} is a SavedModel, whose other inputs cannot be set. Give "
                    "the .keras file, or export a model of one image input"
                )
            shape = shape or wrapping.shape_of_saved_model(opened)
            return cls(None, pathlib.Path(opened), output, shape, declared, by)
        check_model(opened)
        preprocessor, size = getattr(opened, "preprocessor", None), None
        # Others may call something else so.
        if type(preprocessor).__module__.partition(".")[0] == "keras_hub":
            stated, size = pixel_ranges.of_preprocessor(preprocessor)
            if declared is None:
                declared, by = stated, "its KerasHub preprocessor"
        opened = other_inputs.close(opened, values)
        shape = wrapping.find_shape(opened, shape, size)
        return cls(opened, None, output, shape, declared, by)

    def tell_output(
        self,
        shape: ImageShape,
        ranges: Iterable[pixel_ranges.PixelRange],
        pictures: np.ndarray,
    ) -> int | None:
        """Finds what a SavedModel gives, which `wrap` then goes by.

        Args:
            shape, ranges, pictures: As for `wrapping.tell_output`.

        Returns:
            On how many images that was found; `None` of another network.
        """
        if self.folder is None:
            return None
        self.gives, count = wrapping.tell_output(
            self.folder, shape, self.output, ranges, pictures
        )
        return count

    def wrap(self, pixels: pixel_ranges.PixelRange, shape: ImageShape) -> keras.Model:
        """A Keras model of images in [0, 1]; see `wrapping.wrap`."""
        if self.folder is not None:
            return wrapping.wrap_saved_model(
                self.folder, pixels, shape, self.output, self.gives
            )
        return wrapping.wrap(self.model, pixels, shape, self.output)

    def save(self, model: keras.Model, run_dir: pathlib.Path) -> list[str]:
        """Writes the network into a run, and returns notes on what cannot be done.

        Args:
            model: What `wrap` made.
            run_dir: The folder of the run.
        """
        if self.folder is not None:
            shutil.copytree(self.folder, run_dir / run_record.SAVED_MODEL)
            return []
        try:
            with atomic_file(run_dir / "model.keras") as path:
                model.save(path)
        except Exception as error:  # A layer of one's own may fail in any way.
            return [
                "The network cannot be saved as a .keras file, so ood-evaluate and "
                "ood-export cannot open this run later; what was exported is whole. "
                f"Keras says: {' '.join(str(error).split())[:300]}"
            ]
        return []


def _as_shape(image_shape: Sequence[Any]) -> ImageShape:
    try:
        height, width, channels = map(int, image_shape)
    except (TypeError, ValueError):
        height = width = channels = 0
    if min(height, width, channels) < 1:
        raise ValueError(
            "the shape of images is three positive numbers, HEIGHT,WIDTH,CHANNELS, as "
            f"in 224,224,3. Received: image_shape={image_shape!r}"
        )
    return height, width, channels
