"""What the filter that reduces Omniglot to 28x28 is worth.

  python benchmarks/omniglot_filters.py --run_dir=runs/table1/mnist/ours/seed_0 \\
      --data_dir=DIR --output=results/omniglot_filters.json

Omniglot's drawings have 105x105 pixels, and published results seldom say how they were
reduced. This scores the same drawings with the run's model and its selected detector,
once per filter.
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from PIL import Image

from ood_keras import detectors, metrics, pipelines
from ood_keras.evaluation import page
from ood_keras.files import write_json
from ood_keras.workflows import run_data

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "area average": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run_dir", type=pathlib.Path, required=True)
    parser.add_argument("--data_dir", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()

    settings = run_data.read_settings(arguments.run_dir)
    selected = json.loads((arguments.run_dir / "metrics.json").read_text())[
        "selected_detector"
    ]
    model = keras.models.load_model(arguments.run_dir / "model.keras")
    detector = detectors.load(
        arguments.run_dir / "detectors" / f"{selected}.json", model
    )
    known = pipelines.load(settings["known"], data_dir=arguments.data_dir).test
    known_scores = detector.score(known.dataset())
    archive_path = arguments.data_dir / "omniglot" / "images_evaluation.zip"
    with zipfile.ZipFile(archive_path) as archive:
        drawings = [
            Image.eval(
                Image.open(io.BytesIO(archive.read(name))).convert("L"),
                lambda value: 255 - value,
            )
            for name in sorted(archive.namelist())
            if name.endswith(".png")
        ]
    results = {}
    for name, resampling in FILTERS.items():
        pixels = np.stack(
            [np.asarray(drawing.resize((28, 28), resampling)) for drawing in drawings]
        )
        scores = detector.score(pixels[..., None].astype(np.float32) / 255)
        results[name] = metrics.evaluate_scores(known_scores, scores)
        print(f"{name:<14} AUROC {results[name]['auroc']:.4f}", flush=True)
    if arguments.output:
        write_json(
            arguments.output,
            {
                "known": settings["known"],
                "detector": selected,
                "run": {
                    "recipe": settings["recipe"]["name"],
                    "seed": settings["seed"],
                    "unknown": settings["unknown"],
                },
                "drawings": len(drawings),
                "filters": results,
                "data": {
                    **run_data.fingerprint([known]),
                    archive_path.name: {"sha256": _sha256(archive_path)},
                },
                "versions": page.versions(),
            },
        )


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
