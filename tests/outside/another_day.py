"""What the journey saved, in a process that does not know `lookout`, then knows it.

  python another_day.py FOLDER

Prints JSON: the errors without the package, and what was loaded with it.
"""

import json
import pathlib
import sys

import keras
import numpy as np

from ood_keras import (
    calibration,
    detectors,
    export,
    metrics,
    pipelines,
    plugins,
    training,
    workflows,
)
from ood_keras.workflows import run_record


def message(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except ValueError as error:
        return str(error)
    return "no error"


def main(folder):
    run_dir = folder / "run"
    saved = run_dir / "detectors" / "nearest_mean.json"
    without = {
        "run": message(workflows.evaluate, run_dir=run_dir, unknown=["uniform_noise"]),
        "model": message(run_record.load_model, run_dir),
        "detector": message(detectors.load, saved, None),
        "metric": message(metrics.get, "fpr80"),
        "source": message(pipelines.load, "lookout/shapes"),
        "made source": message(pipelines.load, "grey:3"),
        "augmentation": message(training.recipes.get, "demo", augment="random_mirror"),
        "loss": message(training.recipes.get, "demo", loss="brier"),
        "threshold": message(calibration.get, "halfway"),
    }
    # What is served needs nothing of it.
    predictor = export.load(folder / "model" / "1")
    imported = "lookout" in sys.modules

    plugins.load(["lookout"])
    model = run_record.load_model(run_dir)
    detector = detectors.load(saved, model)
    test = pipelines.load("lookout/shapes").test
    images = test.images.astype(np.float32) / 255
    answers = predictor.predict(images)
    with np.load(run_dir / "scores.npz", allow_pickle=False) as scores:
        recorded = scores["known/nearest_mean"]
    features = keras.Model(model.inputs, model.get_layer("features").output)
    report = {
        "without": without,
        "imported by an artifact": imported,
        "loss": type(model.loss).__name__,
        "recorded": recorded.tolist(),
        "loaded": detector.score(images).tolist(),
        "served": np.asarray(answers["ood_score"]).tolist(),
        "features": features.predict(images, verbose=0).tolist(),
        "means": detector.get_arrays()["means"].tolist(),
        "pixels": np.unique(test.images[:, 0, 0, 0]).tolist(),
    }
    print("report:" + json.dumps(report))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
