"""Mistakes that a type checker must find; each line has one."""

import ood_keras

missing = ood_keras.export.saved_modell  # error
ood_keras.detectors.get(3)  # error
ood_keras.calibration.conformal([0.0], target_acceptance="high")  # error
ood_keras.export.saved_model(threshold=1)  # error
epochs = ood_keras.training.recipes.get("fast").epoch  # error
