"""What a network gave for a data set, kept on disk to be read many times."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import keras
import numpy as np

from ood_keras.types import Images, Names, Outputs

# Of inner layers, all images together. The means of MobileNetV2's layers take 60 kB an
# image, 600 MB for 10,000 images.
_MOST_LAYER_BYTES = 2**31


class Recording:
    """What one pass gave, in temporary files; a context manager.

    Kept are logits, features and labels, and of inner layers the means over their
    positions, as long as these take less than a limit on the disk; beyond it they are
    dropped, and whoever needs them runs the network again.

    Args:
        data: What the network ran on, by which it is known again.
        batches: `(outputs, labels)` as `Network.batches` yields them, where `layers`
            holds arrays `(batch, channels)`, if there are any; walked over once, here.
            One batch at a time is in memory, then and later.
        most_layer_bytes: The limit.

    Attributes:
        layers: Names of the inner layers that were kept.
    """

    def __init__(
        self,
        data: Images,
        batches: Iterable[tuple[Outputs, np.ndarray | None]],
        most_layer_bytes: int = _MOST_LAYER_BYTES,
    ) -> None:
        self.data = data
        self.layers: frozenset[str] = frozenset()
        self._of_outputs, self._of_layers = _ArrayFile(), _ArrayFile()
        # For each batch, where its arrays are.
        self._outputs: list[dict[str, int]] = []
        self._layers: list[dict[str, int]] = []
        self._labels: list[int | None] = []
        try:
            for outputs, labels in batches:
                self._add(outputs, labels, most_layer_bytes)
        except BaseException:
            self._close()
            raise

    def replay(
        self, read: Callable[[Outputs], Any] | None = None, layers: Names = ()
    ) -> Iterator[tuple[Any, np.ndarray | None]]:
        """Yields `(outputs, labels)`, NumPy, as `Network.batches` with `read`.

        Args:
            read: As there.
            layers: Names of inner layers that were kept, whose means are wanted.
        """
        for index, places in enumerate(self._outputs):
            outputs: Any = self._of_outputs.read_all(places)
            if layers:
                kept = self._layers[index]
                wanted = {name: kept[name] for name in layers}
                outputs["layers"] = self._of_layers.read_all(wanted)
            place = self._labels[index]
            labels = None if place is None else self._of_outputs.read(place)
            if read is not None:
                tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, outputs)
                outputs = keras.tree.map_structure(
                    keras.ops.convert_to_numpy, read(tensors)
                )
            yield outputs, labels

    def _add(self, outputs, labels, most_layer_bytes):
        layers = outputs.get("layers", {})
        if not self._outputs:
            self.layers = frozenset(layers)
        outputs = {name: outputs[name] for name in outputs if name != "layers"}
        self._outputs.append(self._of_outputs.add_all(outputs))
        self._labels.append(None if labels is None else self._of_outputs.add(labels))
        if self.layers:
            self._layers.append(self._of_layers.add_all(layers))
            if self._of_layers.size > most_layer_bytes:
                self.layers = frozenset()
                self._of_layers.close()

    def _close(self):
        self._of_outputs.close()
        self._of_layers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()


class _ArrayFile:
    """Arrays in a temporary file, found again by their places."""

    def __init__(self):
        self.size = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`

    def add(self, array: np.ndarray) -> int:
        place = self.size
        # Others may have read.
        self._file.seek(place)
        np.save(self._file, array, allow_pickle=False)
        self.size = self._file.tell()
        return place

    def add_all(self, arrays: dict[str, np.ndarray]) -> dict[str, int]:
        return {name: self.add(array) for name, array in arrays.items()}

    def read(self, place: int) -> np.ndarray:
        self._file.seek(place)
        return np.load(self._file, allow_pickle=False)

    def read_all(self, places: dict[str, int]) -> dict[str, np.ndarray]:
        return {name: self.read(place) for name, place in places.items()}

    def close(self) -> None:
        self._file.close()
