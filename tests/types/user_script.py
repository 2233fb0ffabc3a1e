"""What a user writes, as an editor sees it: a type checker reads it, nothing runs it.

Every `assert_type` fails where a name of the package is unknown to the checker, or is
known as something else.
"""

from typing import Any, assert_type

import numpy as np

import ood_keras
from ood_keras import pipelines

known = pipelines.load("digits")
assert_type(known, pipelines.Source)
assert_type(known.train, pipelines.Split)
detector = ood_keras.detectors.get("energy", num_classes=10)
assert_type(detector, ood_keras.detectors.Detector)
model: Any = ood_keras.models.se_alexnet(input_shape=(28, 28, 1), num_classes=10)
detector = detector.fit(model)
scores = detector.score(known.validation.dataset())
assert_type(scores, np.ndarray)
threshold = ood_keras.calibration.conformal(scores, target_acceptance=0.95)
assert_type(threshold, ood_keras.calibration.Threshold)
assert_type(threshold.value, float)
path = ood_keras.export.saved_model(model, detector, threshold, "models/digits/1")
predictor = ood_keras.inference.load(path)
answer = predictor.predict(known.test.images)
assert_type(answer, dict[str, np.ndarray])
assert_type(ood_keras.metrics.auroc(scores, scores), float)
assert_type(ood_keras.training.recipes.get("fast").epochs, int)
