"""Training that no unknown image steers: what is measured, and which epoch is best."""

import keras
import numpy as np
import resumable_run

from ood_keras.training import run, validation


def test_measures_accuracy_and_cross_entropy_of_the_known_classes():
    model = resumable_run.build_model()
    known, _ = resumable_run.Data().validation()
    measured = validation.Validation(
        model, (known, None), resumable_run.NUM_CLASSES, "unknown_probability"
    ).measure()
    images = np.concatenate([images for images, _ in known])
    labels = np.concatenate([labels for _, labels in known])
    logits = model.predict(images, verbose=0)[:, : resumable_run.NUM_CLASSES]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    assert set(measured) == {"known_accuracy", "known_loss"}
    np.testing.assert_allclose(measured["known_loss"], float(loss), rtol=1e-5)
    assert measured["known_accuracy"] == np.mean(logits.argmax(1) == labels)


def test_the_best_epoch_has_the_highest_accuracy_then_the_lowest_loss():
    rows = [
        {"val_known_accuracy": accuracy, "val_known_loss": loss}
        for accuracy, loss in [(0.8, 0.1), (0.9, 0.5), (0.9, 0.3), (0.9, 0.4)]
    ]
    assert min(rows, key=run._rank) is rows[2]


def test_without_a_classifier_the_lowest_loss_is_best():
    rows = [{"val_known_loss": loss} for loss in (0.5, -0.1, 0.3)]
    assert min(rows, key=run._rank) is rows[1]
