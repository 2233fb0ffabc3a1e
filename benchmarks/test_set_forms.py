"""Every unknown test set in each form that the field publishes, scored by models.

  python benchmarks/test_set_forms.py --data_dir=DIR --num_images=2000 \\
      --output=benchmarks/results/test_set_forms.json

The unknown test images of the paper's Table 1, and of sets that others use beside
them, prepared as in one publication and as in another: Omniglot as it is distributed
and inverted, by three filters; letters upright and on their side; notMNIST and its
negative; Gaussian noise of several laws. Each row is the official test part (of noise,
10,000 images with seed 0), scored by a model in its served form and decided by its own
threshold. Nothing is chosen here: no detector, no threshold, no form.

With --num_images, so many images of each set are scored, spread evenly over its
classes, but of the known images all, and of the two Omniglots that are compared with
the paper, since AUPR depends on how many there are. Rows that --output already holds of
the same model and the same images are kept, so a run that was stopped goes on.

A model is a name of one that is shipped, or a path; its known source is in its
manifest. Run it again where the models have changed.
"""

import argparse
import functools
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from provenance import provenance

from ood_keras import export, files, metrics, pipelines
from ood_keras.inference import manifest
from ood_keras.workflows import run_data

SPECS = (
    *("emnist/letters", "emnist/letters@transposed"),
    *("kmnist", "kannada_mnist", "dig_mnist"),
    *("mnist", "fashion_mnist"),
    *("notmnist", "notmnist@negative"),
    *("omniglot@as_distributed", "omniglot@as_distributed@area"),
    "omniglot@as_distributed@nearest",
    *("omniglot", "omniglot@area", "omniglot@nearest"),
    *("uniform_noise", "gaussian_noise", "gaussian_noise@std_0.5"),
    "gaussian_noise@mean_0",
)
# Those that are shipped: the latest, and those of the paper's benchmark.
_MODELS = ["mnist", "fashion_mnist"]
_MODELS += [f"saved_models/{name}/1" for name in _MODELS]
# Compared with the paper's numbers, so never with a part of the images.
_WHOLE = ("omniglot", "omniglot@as_distributed")
_SEED = 0
# Float pixels of a piece, not of a whole test set, are held beside its bytes.
_CHUNK = 2000


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=_MODELS)
    parser.add_argument("--specs", nargs="+", default=list(SPECS))
    parser.add_argument("--num_images", type=int, help="of each test set; default: all")
    parser.add_argument("--data_dir", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    result = {"models": {}}
    if arguments.output and arguments.output.is_file():
        result = json.loads(arguments.output.read_text())
    result |= {
        "num_images": arguments.num_images,
        "seed": _SEED,
        "provenance": provenance("tensorflow", "keras", "numpy", "pillow"),
    }
    for name in arguments.models:
        before = result["models"].pop(name, None)
        for measured in measure(name, arguments, before):
            result["models"][name] = measured
            if arguments.output:
                files.write_json(arguments.output, result)


def measure(name, arguments, before):
    """Yields what one model makes of the test sets, a dict for JSON, row by row.

    Args:
        name: The model.
        arguments: Those of the command.
        before: What was measured earlier by this name, or `None`.
    """
    model = export.load(name)
    stated = manifest.read(model.path)
    same = before and before["manifest_sha256"] == stated["manifest_sha256"]
    training = stated["training"]
    load = functools.partial(pipelines.load, data_dir=arguments.data_dir, seed=_SEED)
    known = load(training["known"]).test
    known_answer = score(model, known)
    print(f"{name}: {known} accepted {known_answer['accepted'].mean():.4f}")
    rows = {}
    for spec in arguments.specs:
        split = load(spec).test
        # What is known cannot be unknown, in whatever form.
        if not set(known.class_identities).isdisjoint(split.class_identities):
            continue
        size = len(split) if spec in _WHOLE else arguments.num_images or len(split)
        whole = size >= len(split)
        split = split if whole else split.take(size, seed=_SEED)
        row = before["unknown"].get(spec) if same else None
        if row is None or row["sha256"] != split.fingerprint():
            row = compare(known_answer, score(model, split))
        rows[spec] = {
            **row,
            "images": len(split),
            "whole": whole,
            "sha256": split.fingerprint(),
            "seen": bool(run_data.find_seen([spec], training["unknown"])),
        }
        print(f"{spec:<32} AUROC {row['auroc']:.4f}  accepted {row['accepted']:.4f}")
        yield {
            "training": training,
            "detector": stated["detector"]["name"],
            "threshold": stated["threshold"],
            "manifest_sha256": stated["manifest_sha256"],
            "known": {
                "source": known.source,
                "images": len(known),
                "sha256": known.fingerprint(),
                "accepted": float(known_answer["accepted"].mean()),
            },
            "unknown": rows,
        }


def compare(known, unknown):
    """The metrics of two answers, and the share of the unknown that is accepted."""
    return {
        "accepted": float(unknown["accepted"].mean()),
        **metrics.evaluate_scores(known["ood_score"], unknown["ood_score"]),
    }


def score(model, split):
    """The model's answers for a split, of each key one array."""
    parts = [
        model.predict(split.images[start : start + _CHUNK].astype(np.float32) / 255)
        for start in range(0, len(split), _CHUNK)
    ]
    return {
        key: np.concatenate([part[key] for part in parts])
        for key in ("ood_score", "accepted")
    }


if __name__ == "__main__":
    main()
