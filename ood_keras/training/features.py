"""Maps of a frozen backbone, computed once for all epochs and kept on disk."""

import pathlib
import shutil
import time
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ood_keras import batches, files
from ood_keras.conventions import check_count
from ood_keras.training.validation import Validation
from ood_keras.types import Dataset, Images, Json, Path

# Half the bytes, and as exact as the rounding of a convolution.
_DTYPE = np.float16
_LARGEST = float(np.finfo(_DTYPE).max)


class FeatureStore:
    """Maps that a backbone makes of images, in a folder, each set computed once.

    Args:
        backbone: From images to maps.
        folder: Where the files are kept; made when it is needed.
    """

    def __init__(self, backbone: keras.Model, folder: Path) -> None:
        self._folder = pathlib.Path(folder)
        self._shape = backbone.output_shape[1:]
        self._compute = tf.function(
            lambda images: backbone(images, training=False),
            input_signature=[tf.TensorSpec((None, *backbone.input_shape[1:]))],
            autograph=False,
        )

    @property
    def bytes_per_image(self) -> int:
        """What the map of an image takes on disk."""
        return int(np.prod(self._shape)) * np.dtype(_DTYPE).itemsize

    def __contains__(self, name: str) -> bool:
        return self._path(name).exists()

    def check_space(self, names: Iterable[str], count: int) -> None:
        """Raises an OSError if sets of `count` images do not fit on the disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = sum(name not in self for name in names)
        needed = missing * count * self.bytes_per_image
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise OSError(
                f"the features of {count} images need {needed / 2**20:.0f} MiB in "
                f"{self._folder}, and {free / 2**20:.0f} MiB are free. Make space, "
                "choose a run_dir on another disk, or show fewer renderings "
                "(--override=feature_renderings=1)"
            )

    def read(self, name: str, data: Images, count: int) -> np.ndarray:
        """Returns the maps of images, computed unless the set is there.

        Args:
            name: Name of the set.
            data: The images, as `ood_keras.batches.iterate` takes them.
            count: Their number.

        Returns:
            float16 `(count, height, width, channels)`, read from disk as it is used.
        """
        path = self._path(name)
        if not path.exists():
            with files.atomic_file(path) as temporary:
                shape = (count, *self._shape)
                maps = np.lib.format.open_memmap(temporary, "w+", _DTYPE, shape)
                row = 0
                for images, _ in batches.iterate(data):
                    made = self._compute(images).numpy()
                    maps[row : row + len(made)] = made.clip(-_LARGEST, _LARGEST)
                    row += len(made)
                maps.flush()
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def _path(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}.npy"


class FeatureData:
    """What a head trains on: the maps of the images that mixed data hands out.

    In every epoch an image shows one of its renderings, in turn: as it is, and
    augmented in some other ways. Each rendering is one file, written when it is first
    needed; a killed run computes at most the one it was at again.

    Args:
        data: A `pipelines.Interleave`.
        store: What makes and keeps the maps.
        renderings: How many renderings of each image; the first one is untouched.
        progress: Whether to say what is computed and how long it took.

    Raises:
        ValueError: `renderings` is not a positive integer.
    """

    def __init__(
        self,
        data: Any,
        store: FeatureStore,
        renderings: int = 1,
        progress: bool = True,
    ) -> None:
        self._data, self._store = data, store
        self._num_renderings = check_count("renderings", renderings)
        self._progress = progress
        self._maps: list[np.ndarray] = []
        self._labels = np.empty(0, np.int32)
        self.steps_per_epoch = data.steps_per_epoch

    def get_config(self) -> Json:
        return {**self._data.get_config(), "renderings": self._num_renderings}

    def epoch(self, index: int, start_step: int = 0) -> Dataset:
        """Returns the batches of one epoch, `(maps, labels)`, from `start_step` on."""
        if not self._maps:
            self._maps = self._compute()
            labels = [labels for _, labels in self._data.rendering(0)]
            self._labels = np.concatenate(labels)
        order, size = self._data.order(index), self._data.batch_size
        shape = self._maps[0].shape[1:]

        def gather(step):
            rows = order[step * size : (step + 1) * size]
            maps = np.empty((len(rows), *shape), np.float32)
            for place, row in enumerate(rows):
                maps[place] = self._maps[(index + row) % self._num_renderings][row]
            return maps, self._labels[rows]

        def read(step):
            maps, labels = tf.numpy_function(gather, [step], [tf.float32, tf.int32])
            maps = tf.ensure_shape(maps, [None, *shape])
            return maps, *self._data.weigh(tf.ensure_shape(labels, [None]))

        steps = tf.data.Dataset.range(start_step, self.steps_per_epoch)
        return steps.map(read).prefetch(2)

    def _compute(self) -> list[np.ndarray]:
        count = self._data.num_rows
        names = [f"rendering_{number}" for number in range(self._num_renderings)]
        self._store.check_space(names, count)
        maps = []
        for number, name in enumerate(names):
            started, is_new = time.monotonic(), name not in self._store
            maps.append(self._store.read(name, self._data.rendering(number), count))
            if self._progress and is_new:
                print(
                    f"Features of {count} images, rendering {number + 1} of "
                    f"{self._num_renderings}: {time.monotonic() - started:.0f}s",
                    flush=True,
                )
        return maps


class FeatureValidation:
    """Measures a head on the maps of validation images, which are computed once.

    Args:
        head: From maps to logits.
        store: What makes and keeps the maps.
        data: `(known, unknown)`, as `Validation` takes it.
        num_classes: N.
        score: Name of a score in `ood_keras.detectors.output_scores`.
    """

    def __init__(
        self,
        head: keras.Model,
        store: FeatureStore,
        data: tuple[Images, Images | None],
        num_classes: int,
        score: str,
    ) -> None:
        self._head, self._store = head, store
        self._data, self._num_classes, self._score = data, num_classes, score
        self._validation: Validation | None = None

    def measure(self) -> dict[str, float]:
        """Returns what `Validation.measure` does."""
        if self._validation is None:
            known, unknown = self._data
            self._validation = Validation(
                self._head,
                (
                    self._read(known, "validation_known"),
                    None
                    if unknown is None
                    else self._read(unknown, "validation_unknown"),
                ),
                self._num_classes,
                self._score,
            )
        return self._validation.measure()

    def _read(self, data: Images, name: str) -> tuple[np.ndarray, np.ndarray]:
        labels = np.concatenate([labels for _, labels in batches.iterate(data)])  # type: ignore[misc]
        self._store.check_space([name], len(labels))
        return self._store.read(name, data, len(labels)), labels
