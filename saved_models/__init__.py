"""Trained models that come with the package; `ood_keras.export.load` names them."""
