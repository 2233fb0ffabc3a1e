"""Pictures whose strange part is known, for the tests of heat maps."""

import numpy as np

SHAPE = (24, 30, 3)


def draw() -> tuple[np.ndarray, np.ndarray]:
    """Faint noise with a bright patch in each of six, and where that is."""
    generator = np.random.default_rng(0)
    images = generator.uniform(0.0, 0.4, (6, *SHAPE)).astype(np.float32)
    patch = np.zeros(images.shape[:3], bool)
    for number, (top, left) in enumerate(
        [(0, 0), (18, 24), (0, 24), (9, 12), (3, 17), (14, 5)]
    ):
        patch[number, top : top + 6, left : left + 6] = True
    images[patch] = generator.uniform(0.9, 1.0, (patch.sum(), 3))
    return images, patch
