"""The known image that is most like another, in what a network sees of both."""

from collections.abc import Callable

import numpy as np

from ood_keras.types import Images


class NearestKnown:
    """Finds the known image whose features have the largest cosine with those of one.

    Args:
        read_features: From float images `(n, height, width, channels)` in [0, 1] to
            their features `(n, D)`.
        images: Known images, uint8.
        batch_size: Images whose features are read at once.
    """

    def __init__(
        self,
        read_features: Callable[[Images], np.ndarray],
        images: np.ndarray,
        batch_size: int = 32,
    ) -> None:
        self._read = read_features
        self._directions = np.concatenate(
            [
                self._directions_of(
                    images[start : start + batch_size] / np.float32(255)
                )
                for start in range(0, len(images), batch_size)
            ]
        )

    def find(self, image: np.ndarray) -> tuple[int, float]:
        """Which of the known images is nearest to one in [0, 1], and the cosine."""
        (direction,) = self._directions_of(image[None])
        cosines = self._directions @ direction
        nearest = int(cosines.argmax())
        return nearest, float(cosines[nearest])

    def _directions_of(self, images):
        """Features of length 1; of no length if they are all 0."""
        features = self._read(images)
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        return features / np.where(lengths > 0, lengths, 1)
