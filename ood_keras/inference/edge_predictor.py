"""What the predictors without TensorFlow have in common."""

import pathlib
from collections.abc import Sequence

import numpy as np

from ood_keras import batches
from ood_keras.inference import answers, manifest, pillow_decoder
from ood_keras.types import Answer, Images, ImageShape, Json, Path


class EdgePredictor:
    """Opens a converted model and reads image files for it; a base class.

    Attributes:
        manifest: The content of `manifest.json`, a dict.
        threshold: Largest accepted `ood_score`, as the manifest states it.
        operating_points: Other thresholds that the model offers, by name.
        class_names: Labels of the known classes, by class id.
        image_shape: `(height, width, channels)` of the images it takes.
        background: Grey level on which transparent pixels of image files are laid;
            `None` if alpha is dropped, as by the SavedModel that it was made from.
        exif_orientation: Whether JPEG files are turned as their camera's note says, as
            by that SavedModel.
    """

    def _open(self, path: Path, name: str) -> bytes:
        """Reads the manifest; returns the content of the file that `path` leads to.

        Args:
            path: The file, or the folder that holds it as `name`.
            name: The usual name of the file.
        """
        path = pathlib.Path(path)
        suffix = pathlib.Path(name).suffix
        file = path if path.suffix == suffix else path / name
        self._folder = file.parent
        self.manifest: Json = manifest.read(self._folder)
        if file.name not in self.manifest["files"]:
            raise ValueError(
                f"the manifest of {file.parent} does not list {file.name}; expected a "
                f"folder that ood_keras.export.{suffix[1:]} wrote, with {name}"
            )
        self.class_names: tuple[str, ...] = tuple(self.manifest["class_names"])
        threshold = answers.own_threshold(self.manifest)
        if isinstance(threshold, tuple):
            raise ValueError(
                f"the manifest in {self._folder} has a threshold for each class, which "
                "a converted model does not decide by; convert the model again"
            )
        self.threshold: float = threshold
        self.operating_points = answers.operating_points(self.manifest)
        self.image_shape: ImageShape = tuple(
            self.manifest["input"]["image"]["shape"][1:]
        )
        self.background = manifest.background(self.manifest)
        self.exif_orientation = manifest.exif_orientation(self.manifest)
        return file.read_bytes()

    def predict(self, images: Images, threshold: float | str | None = None) -> Answer:
        """Decides for each image; a subclass says how."""
        raise NotImplementedError

    def predict_bytes(
        self, contents: Sequence[bytes], threshold: float | str | None = None
    ) -> Answer:
        """Decides for each image file; one that cannot be decoded is invalid.

        Args:
            contents: A list of `bytes`, the content of one PNG or JPEG file each, of
                any size.
            threshold: As for `predict`.

        Returns:
            As `predict` does.

        Raises:
            TypeError: `contents` is not a list of bytes.
            ValueError: the model takes images that no image file holds.
        """
        answers.check_contents(contents, self.image_shape)
        size = batches.files_at_once(self.image_shape)
        parts = [
            self.predict(self.decode(contents[start : start + size]), threshold)
            for start in range(0, max(1, len(contents)), size)
        ]
        return answers.join(parts)

    def decode(self, contents: Sequence[bytes]) -> np.ndarray:
        """The image files as images for `predict`: NaN what cannot be decoded."""
        answers.check_contents(contents, self.image_shape)
        images = np.full((len(contents), *self.image_shape), np.nan, np.float32)
        for row, content in enumerate(contents):
            pixels = pillow_decoder.decode(
                content, self.image_shape, self.background, self.exif_orientation
            )
            if pixels is not None:
                images[row] = pixels.astype(np.float32) / 255
        return images
