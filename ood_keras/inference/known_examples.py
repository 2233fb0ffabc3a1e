"""A few known images and scores that travel with an exported model."""

import dataclasses
import pathlib

import numpy as np

from ood_keras import files, npz
from ood_keras.types import Path

NAME = "assets.extra/known_examples.npz"
# Enough to draw a density, few enough to ship.
_NUM_QUANTILES = 2001
# 256 MiB; those that `ood-export` writes have some 200 KB.
_MAX_BYTES = 2**28


@dataclasses.dataclass(frozen=True, eq=False)
class KnownExamples:
    """What a model was shown: for pages and reports that explain its answers.

    Whoever gets the exported model gets these images; leave them out where the data is
    private.

    Args:
        images: Known images, uint8 `(num_images, height, width, channels)`; some
            hundreds.
        labels: Their class ids, `(num_images,)` or `(num_images, 1)`.
        known_scores: `ood_score` of known images, `(num_known,)`; those that chose the
            threshold. Kept as 2,001 quantiles if there are more.
        unknown_scores: `ood_score` of unknown images, `(num_unknown,)`; may be empty.

    Raises:
        TypeError: images are not uint8.
        ValueError: images do not have four axes, there is not one label per image, or
            there are no finite known scores.

    Example:

    >>> examples = export.KnownExamples(images, labels, detector.score(images / 255))
    >>> export.saved_model(model, detector, threshold, path, known_examples=examples)
    """

    images: np.ndarray
    labels: np.ndarray
    known_scores: np.ndarray
    unknown_scores: np.ndarray = ()  # type: ignore[assignment]

    def __post_init__(self) -> None:
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.dtype != np.uint8:
            raise TypeError(
                "images must be uint8, 0 to 255 (for floats in [0, 1]: "
                f"`np.round(images * 255).astype('uint8')`). Received: {images.dtype}"
            )
        if labels.shape == (len(images), 1):
            labels = labels[:, 0]
        if images.ndim != 4 or labels.shape != images.shape[:1]:
            raise ValueError(
                "expected images (num_images, height, width, channels) and one label "
                f"per image. Received: shapes {images.shape} and {labels.shape}"
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int32))
        for name in ("known_scores", "unknown_scores"):
            object.__setattr__(self, name, _thin(getattr(self, name)))
        if not len(self.known_scores):
            raise ValueError(
                "`known_scores` holds no finite score; give those of the "
                "images that chose the threshold"
            )


def write(folder: pathlib.Path, examples: KnownExamples) -> None:
    """Writes `examples` into an exported model that is being made."""
    with files.atomic_file(pathlib.Path(folder) / NAME) as temporary:
        files.write_arrays(temporary, vars(examples), compressed=True)


def read(folder: Path) -> KnownExamples | None:
    """Returns the `KnownExamples` of an exported model, or `None` if it has none.

    Raises:
        ValueError: the file is damaged, or does not hold examples.
    """
    path = pathlib.Path(folder) / NAME
    if not path.is_file():
        return None
    what = "the known examples of an exported model"
    fields = [field.name for field in dataclasses.fields(KnownExamples)]
    found = npz.read(path, what, required=fields, max_bytes=_MAX_BYTES)
    try:
        return KnownExamples(**{name: found[name] for name in fields})
    except (TypeError, ValueError) as error:
        raise ValueError(f"the file {path} is not {what}: {error}") from error


def _thin(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, np.float32)
    scores = np.sort(scores[np.isfinite(scores)])
    if len(scores) > _NUM_QUANTILES:
        chosen = np.linspace(0, len(scores) - 1, _NUM_QUANTILES)
        scores = scores[np.round(chosen).astype(int)]
    return scores
