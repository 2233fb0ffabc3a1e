"""What models make of digits and letters that are drawn on the demo page's sheet.

  python benchmarks/demo_sheet.py --data_dir=DIR \\
      --output=benchmarks/results/demo_sheet.json

No one sits down to draw thousands of characters, so test images of MNIST and of EMNIST
letters stand for them: each is enlarged to 200 of the sheet's 280 pixels, becomes ink
where it is brighter than a half (a third and two thirds make a thicker and a thinner
pen), and is put somewhere on the sheet. So all that is left of the scan is the shape.
From there on it goes the way of a drawing: `pipelines.drawing.center`, then the model
in its served form at its own threshold. Nothing is chosen here.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from PIL import Image
from provenance import provenance

from ood_keras import export, files, pipelines
from ood_keras.inference import manifest
from ood_keras.pipelines import drawing
from ood_keras.study.renderings_page import LIKE_DIGITS
from ood_keras.workflows.demo.answers import SHEET_SIDE

DIGITS, LETTERS = "mnist", "emnist/letters"
# An image is ink where it is brighter than this.
PENS = {"thick": 1 / 3, "as scanned": 1 / 2, "thin": 2 / 3}
_INK_SIDE = 200
_SEED = 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    versions = [f"saved_models/mnist/{version}" for version in (1, 2, 3)]
    parser.add_argument("--models", nargs="+", default=versions)
    parser.add_argument("--num_images", type=int, default=2000, help="of each source")
    parser.add_argument("--data_dir", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    splits = {
        spec: pipelines.load(spec, data_dir=arguments.data_dir, seed=_SEED).test.take(
            arguments.num_images, seed=_SEED
        )
        for spec in (DIGITS, LETTERS)
    }
    result = {
        "num_images": arguments.num_images,
        "seed": _SEED,
        "sha256": {spec: split.fingerprint() for spec, split in splits.items()},
        "models": {},
        **provenance("tensorflow", "keras", "numpy", "pillow"),
    }
    for name in arguments.models:
        model = export.load(name)
        stated = manifest.read(model.path)
        result["models"][name] = {
            "recipe": stated["training"]["recipe"]["name"],
            "manifest_sha256": stated["manifest_sha256"],
            "target_acceptance": stated["threshold"]["target_acceptance"],
            "pens": {pen: measure(model, splits, PENS[pen]) for pen in PENS},
        }
        print(name, result["models"][name]["pens"], flush=True)
    if arguments.output:
        files.write_json(arguments.output, result)


def measure(model, splits, level):
    """Shares of drawn digits and letters that one model accepts, and reads right."""
    digits, letters = (
        model.predict(draw(splits[spec].images[..., 0], level, model.image_shape))
        for spec in (DIGITS, LETTERS)
    )
    names = np.array(splits[LETTERS].class_names)[splits[LETTERS].labels]
    alike = np.isin(names, list(LIKE_DIGITS))
    accepted = letters["accepted"]
    right = digits["probabilities"].argmax(axis=1) == splits[DIGITS].labels
    return {
        "digits": {
            "accepted": float(digits["accepted"].mean()),
            "accuracy": float(right.mean()),
        },
        "letters": {
            "accepted": float(accepted.mean()),
            "accepted_like_digits": float(accepted[alike].mean()),
            "accepted_other": float(accepted[~alike].mean()),
            "num_other": int(np.sum(~alike)),
        },
    }


def draw(images, level, image_shape):
    """What the model gets of images, uint8 `(n, 28, 28)`, drawn on the sheet."""
    generator = np.random.default_rng(_SEED)
    drawn = []
    for pixels in images:
        large = Image.fromarray(pixels).resize(
            (_INK_SIDE,) * 2, Image.Resampling.BICUBIC
        )
        sheet = np.zeros((SHEET_SIDE, SHEET_SIDE), np.float32)
        top, left = generator.integers(0, SHEET_SIDE - _INK_SIDE + 1, 2)
        sheet[top : top + _INK_SIDE, left : left + _INK_SIDE] = (
            np.asarray(large) > 255 * level
        )
        image = drawing.center(sheet, image_shape)
        # An image that is all below the level would leave the sheet empty.
        drawn.append(np.zeros(image_shape, np.float32) if image is None else image)
    return np.stack(drawn)


if __name__ == "__main__":
    main()
