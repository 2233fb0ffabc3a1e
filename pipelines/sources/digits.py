"""Scikit-learn's handwritten digits: 1,797 images that need no download."""

import dataclasses
import string

import numpy as np

from ood_keras.pipelines.sources import base
from ood_keras.pipelines.sources.registry import register


@register(
    name="digits",
    licence="CC BY 4.0; Optical Recognition of Handwritten Digits (Alpaydin and "
    "Kaynak), UCI Machine Learning Repository",
)
def open_digits(request: base.Request) -> base.Source:
    """Opens `digits`: 8x8 images with 17 grey levels, enlarged to 28x28."""
    request = dataclasses.replace(
        request, image_shape=request.image_shape or (28, 28, 1)
    )

    def read():
        from sklearn import datasets

        digits = datasets.load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        return images[..., None], digits.target.astype(np.int32)

    readers = {"all": read}
    return base.from_parts(request, string.digits, readers, namespace="digit")
