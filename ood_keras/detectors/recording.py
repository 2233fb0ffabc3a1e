"""What a network gave for a data set, kept on disk to be read many times."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import keras
import numpy as np

from ood_keras.types import Images, Outputs


class Recording:
    """Logits, features and labels of one pass, in a temporary file; a context manager.

    Args:
        data: What the network ran on, by which it is known again.
        batches: `(outputs, labels)` as `Network.batches` yields them; walked over once,
            here. One batch at a time is in memory, then and later.
    """

    def __init__(
        self, data: Images, batches: Iterable[tuple[Outputs, np.ndarray | None]]
    ) -> None:
        self.data = data
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._names: list[str] = []
        self._has_labels: list[bool] = []
        try:
            for outputs, labels in batches:
                self._names = sorted(outputs)
                self._has_labels.append(labels is not None)
                for array in [outputs[name] for name in self._names]:
                    np.save(self._file, array, allow_pickle=False)
                if labels is not None:
                    np.save(self._file, labels, allow_pickle=False)
        except BaseException:
            self._file.close()
            raise

    def replay(
        self, read: Callable[[Outputs], Any] | None = None
    ) -> Iterator[tuple[Any, np.ndarray | None]]:
        """Yields `(outputs, labels)`, NumPy, as `Network.batches` with `read`."""
        place = 0
        for has_labels in self._has_labels:
            # Others may read meanwhile.
            self._file.seek(place)
            outputs: Any = {name: self._load() for name in self._names}
            labels = self._load() if has_labels else None
            place = self._file.tell()
            if read is not None:
                tensors = {
                    name: keras.ops.convert_to_tensor(array)
                    for name, array in outputs.items()
                }
                outputs = keras.tree.map_structure(
                    keras.ops.convert_to_numpy, read(tensors)
                )
            yield outputs, labels

    def _load(self) -> np.ndarray:
        return np.load(self._file, allow_pickle=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
