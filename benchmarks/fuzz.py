"""Thousands of malformed inputs for an exported model and for `ood-predict`.

  python benchmarks/fuzz.py --output=benchmarks/results/fuzz.json

Makes a small model whose threshold accepts most noise, so that nothing is rejected by
chance, and feeds to it: damaged image files (`predict_bytes`), tensors that are no
images (`serving_default`, `predict_at`), and folders of damaged image, IDX and TFRecord
files, links, pipes and strange names (`ood-predict`, with the SavedModel and with a
TFLite file). It fails at the first crash, hang, or class for what is no image, and then
writes nothing. The result counts what became of each kind: "invalid" or "error" is what
says that there was no image; "rejected" and "accepted" are images, such as a JPEG whose
damage still decodes, or what is whole of a truncated file.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/export"))

import fuzzing
from small_export import IMAGE_SHAPE, Exported, Session

from ood_keras import export
from ood_keras.files import write_json


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="inputs of each part")
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    count, start = arguments.count, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        exported = Exported(folder / "model")
        edge = export.tflite(
            exported.path,
            folder / "edge",
            known_images=exported.images,
            formats=["float32"],
        )
        run = Session(exported.path)
        parts = {
            "predict_bytes": fuzzing.files(run, count),
            "serving_default, predict_at": fuzzing.images(run, count, IMAGE_SHAPE),
        }
        for seed, (name, model) in enumerate(
            {"SavedModel": exported.path, "TFLite": edge / "float32"}.items(), start=2
        ):
            parts[f"ood-predict, {name}"] = fuzzing.predict(
                model, folder / name, count, IMAGE_SHAPE, seed
            )
    result = {
        "inputs": 4 * count,
        "seconds": round(time.monotonic() - start, 1),
        "outcomes": {name: _total(counts) for name, counts in parts.items()},
        "outcomes_by_kind": parts,
    }
    if arguments.output:
        write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


def _total(counts):
    total = {}
    for counted in counts.values():
        for outcome, number in counted.items():
            total[outcome] = total.get(outcome, 0) + number
    return total


if __name__ == "__main__":
    main()
