"""A made-up model for the page of `ood-demo`."""

import numpy as np

from ood_keras import calibration, export
from ood_keras.inference import pillow_decoder

SHAPE = (12, 10, 1)


class Model:
    """Accepts what is bright; the features are the image."""

    class_names = ("dark", "<b>bright</b>")
    background = 255
    exif_orientation = True

    def __init__(self, known_examples, image_shape=SHAPE):
        self.known_examples = known_examples
        self.image_shape = image_shape
        points = {
            name: calibration.Threshold(value, "quantile", f"{name}: half.", 9, 0.5)
            for name, value in {"usual": -0.25, "strict": -0.75}.items()
        }
        self.threshold = points["usual"].value
        self.manifest = {
            "threshold": points["usual"].to_dict(),
            "operating_points": {"strict": points["strict"].to_dict()},
        }

    def predict(self, images, threshold):
        brightness = np.asarray(images, np.float32).reshape(len(images), -1).max(axis=1)
        valid = ~np.isnan(brightness)
        bright = np.nan_to_num(brightness)
        return {
            "probabilities": np.stack([1 - bright, bright], axis=1),
            "ood_score": -bright,
            "accepted": valid & (-bright <= threshold),
            "valid": valid,
        }

    def predict_bytes(self, contents, threshold):
        images = [
            pillow_decoder.decode(content, self.image_shape) for content in contents
        ]
        images = [
            np.full(self.image_shape, 255 * np.nan) if i is None else i for i in images
        ]
        return self.predict(np.stack(images) / 255, threshold)

    def features(self, images):
        return {"features": np.reshape(images, (len(images), -1))}


def known_examples(background=0, image_shape=SHAPE):
    images = np.full((3, *image_shape), background, np.uint8)
    images[0, 2:4, 2:8], images[1, 2:10, 2:4], images[2, 5:7, 4:6] = 200, 200, 90
    return export.KnownExamples(images, [1, 1, 0], np.linspace(-1, 0, 50))
