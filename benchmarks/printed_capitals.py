"""Printed capitals that a model of digits accepts, apart from small letters.

  python benchmarks/printed_capitals.py --data_dir=DIR \\
      --output=benchmarks/results/printed_capitals.json

The source `glyphs` has capitals and small letters in one class (A holds a and A), so
results that are kept class by class do not say how many capitals pass. Here its test
images are scored again and counted by the character that each of them shows. `glyphs`
leaves out what looks like a digit in print, of which some, such as B, D and G, are
letters to others; so all 26 capitals are drawn as well, in the same fonts and sizes, at
other places and angles. Models are taken in their served form, at their own thresholds.
Nothing is chosen here.
"""

import argparse
import os
import pathlib
import string

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from provenance import provenance

from ood_keras import export, files, pipelines, resizing
from ood_keras.inference import manifest
from ood_keras.metrics import RankedScores
from ood_keras.pipelines.sources import glyphs

_SEED = 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    versions = [f"saved_models/mnist/{version}" for version in (1, 2, 3)]
    parser.add_argument("--models", nargs="+", default=versions)
    parser.add_argument("--data_dir", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    printed = pipelines.load("glyphs").test
    fonts = glyphs.FONTS["test"]
    sets = {
        "glyphs": (printed.images, glyphs.CHARACTERS),
        "capitals": (
            draw(fonts, string.ascii_uppercase, printed.image_shape),
            list(string.ascii_uppercase),
        ),
    }
    known = pipelines.load("mnist", data_dir=arguments.data_dir).test
    result = {
        "fonts": list(fonts),
        "seed": _SEED,
        "sha256": {split.source: split.fingerprint() for split in (known, printed)},
        "models": {},
        **provenance("tensorflow", "keras", "numpy", "pillow", "matplotlib"),
    }
    for name in arguments.models:
        model = export.load(name)
        stated = manifest.read(model.path)
        scores, accepted = score(model, known.images)
        result["models"][name] = {
            "recipe": stated["training"]["recipe"]["name"],
            "seed": stated["training"]["seed"],
            "detector": stated["detector"]["name"],
            "manifest_sha256": stated["manifest_sha256"],
            "target_acceptance": stated["threshold"]["target_acceptance"],
            "known_accepted": float(accepted.mean()),
            "sets": {
                title: measure(scores, *score(model, images), characters)
                for title, (images, characters) in sets.items()
            },
        }
        print(name, result["models"][name], flush=True)
    if arguments.output:
        files.write_json(arguments.output, result)


def draw(fonts, characters, image_shape):
    """Characters in the fonts and variants of `glyphs`, reduced as those are."""
    large = glyphs.render(fonts, characters, np.random.default_rng(_SEED))
    return resizing.adapt(large, image_shape)


def score(model, images):
    """The model's scores of images, and which of them it accepts."""
    answer = model.predict(images.astype(np.float32) / 255)
    return answer["ood_score"], answer["accepted"]


def measure(known_scores, scores, accepted, characters):
    """`{character: images, share accepted, AUROC}`; characters change fastest."""
    measured = {}
    for place, character in enumerate(characters):
        rows = slice(place, None, len(characters))
        measured[character] = {
            "images": len(accepted[rows]),
            "accepted": float(accepted[rows].mean()),
            "auroc": RankedScores(known_scores, scores[rows]).measure("auroc"),
        }
    return measured


if __name__ == "__main__":
    main()
