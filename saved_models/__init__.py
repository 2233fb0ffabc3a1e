"""Trained models that come with the package; `ood_keras.export.load` knows their names."""
