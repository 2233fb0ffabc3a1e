"""Plain cross-entropy over N + 1 classes against decimal arithmetic."""

import numpy as np
import pytest
from references import losses_reference

from ood_keras.losses import ExtraClassCrossEntropy


@pytest.mark.parametrize("scale", [1, 30, 10_000])
def test_equals_the_reference(scale):
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 64)
    logits = (scale * rng.uniform(-1, 1, (64, 5))).astype("float32")
    values = ExtraClassCrossEntropy(4, reduction=None)(labels, logits)
    expected = losses_reference.extra_class_cross_entropy(labels, logits, 4)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
