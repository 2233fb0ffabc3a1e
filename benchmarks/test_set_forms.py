"""Every unknown test set in each form that the field publishes, scored by models.

  python benchmarks/test_set_forms.py --data_dir=DIR \\
      --output=benchmarks/results/test_set_forms.json

The unknown test images of the paper's Table 1, and of sets that others use beside
them, prepared as in one publication and as in another: Omniglot as it is distributed
and inverted, by three filters; letters upright and on their side; notMNIST and its
negative; Gaussian noise of several laws. Each row is the official test part, whole or
--num_images of it, spread evenly over its classes (of noise, 10,000 images with seed
0), scored by a model in its served form and decided by its own threshold; of the known
images, all are scored. Nothing is chosen here: no detector, no threshold, no form.

A model is a name of one that is shipped, or a path; its known source is in its
manifest. Run it again where the models have changed.
"""

import argparse
import functools
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
_SEED = 0
# Float pixels of a piece, not of a whole test set, are held beside its bytes.
_CHUNK = 2000


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["mnist", "fashion_mnist"])
    parser.add_argument("--specs", nargs="+", default=list(SPECS))
    parser.add_argument("--num_images", type=int, help="of each test set; default: all")
    parser.add_argument("--data_dir", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    result = {
        "num_images": arguments.num_images,
        "seed": _SEED,
        "provenance": provenance("tensorflow", "keras", "numpy", "pillow"),
        "models": {
            name: measure(
                name, arguments.specs, arguments.data_dir, arguments.num_images
            )
            for name in arguments.models
        },
    }
    if arguments.output:
        files.write_json(arguments.output, result)


def measure(name, specs, data_dir, num_images=None):
    """What one model makes of the test sets, a dict for JSON."""
    model = export.load(name)
    stated = manifest.read(model.path)
    training = stated["training"]
    load = functools.partial(pipelines.load, data_dir=data_dir, seed=_SEED)
    known = load(training["known"]).test
    known_answer = score(model, known)
    print(f"{name}: {known} accepted {known_answer['accepted'].mean():.4f}")
    # What is known cannot be unknown, in whatever form.
    identities = set(known.class_identities)
    unknown = [
        spec
        for spec in specs
        if identities.isdisjoint(load(spec).test.class_identities)
    ]
    seen = run_data.find_seen(unknown, training["unknown"])
    rows = {}
    for spec in unknown:
        split = load(spec).test
        if num_images is not None and num_images < len(split):
            split = split.take(num_images, seed=_SEED)
        answer = score(model, split)
        rows[spec] = {
            "images": len(split),
            "sha256": split.fingerprint(),
            "seen": spec in seen,
            "accepted": float(answer["accepted"].mean()),
            **metrics.evaluate_scores(known_answer["ood_score"], answer["ood_score"]),
        }
        print(
            f"{spec:<32} AUROC {rows[spec]['auroc']:.4f}  "
            f"accepted {rows[spec]['accepted']:.4f}",
            flush=True,
        )
    return {
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
