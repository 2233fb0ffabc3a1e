"""Decisions on real images: the live model against what was exported from it, anywhere.

  python benchmarks/export_parity.py --run_dir=runs/mnist \\
      --model=saved_models/mnist/1 --data_dir=DATA \\
      --output=benchmarks/results/export_parity.json

The live model is the run's `model.keras` with its detector and the model's threshold;
no code of the export takes part. It decides for 10,000 known test images and 10,000
unknown ones, spread evenly over the test sources that are real images. The same images
then go through the SavedModel (Python, a Session, and C++ where a compiler is), ONNX
Runtime and the four TFLite files. The bars: the same decision (class or rejection) for
every image in float32, except for those listed under `near_threshold`; 99.9 % in
float16; 99.5 % with 8 bits, whose AUROC stays within 0.001 of the float32 file's, in at
most 30 % of its bytes. Thresholds of rounded files are calibrated on known validation
images, as `export.tflite` does. Takes a few minutes on two cores.
"""

import argparse
import collections
import json
import os
import pathlib
import sys
import tempfile
import time

import cc_session
import numpy as np

from ood_keras.conventions import accepts
from ood_keras.inference import answers

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BATCH_SIZE = 256
# Smallest share of equal decisions; None: all but those near the threshold.
BARS = {
    "saved_model": None,
    "session": None,
    "cpp": None,
    "onnx": None,
    "tflite_float32": None,
    "tflite_float16": 0.999,
    "tflite_dynamic_range": 0.995,
    "tflite_int8": 0.995,
}
QUANTISED = ("tflite_float16", "tflite_dynamic_range", "tflite_int8")
EIGHT_BITS = ("tflite_dynamic_range", "tflite_int8")
AUROC_BAR = 0.001
INT8_BYTES_BAR = 0.30
# Relative to the threshold, or to 1: what float32 cannot tell apart.
NEAR = 1e-6
MOST_LISTED = 100
MADE = ("uniform_noise", "gaussian_noise", "synthetic")


def batches(images):
    for start in range(0, len(images), BATCH_SIZE):
        yield images[start : start + BATCH_SIZE]


def live_answers(detector, threshold, images):
    """Scores and decisions of the live model, batch by batch, uncompiled."""
    import tensorflow as tf

    def answer(batch):
        outputs = detector.call(tf.constant(batch))
        score = np.array(outputs["ood_score"])
        known = np.array(outputs["logits"])[:, : detector.num_classes]
        class_id = np.where(accepts(score, threshold), known.argmax(axis=1), -1)
        return {"ood_score": score, "class_id": class_id}

    return answers.join([answer(batch) for batch in batches(images)])


def in_python(path, images):
    import tensorflow as tf

    model = tf.saved_model.load(str(path))
    run = model.signatures["serving_default"]
    parts = [run(image=tf.constant(batch)) for batch in batches(images)]
    return answers.join([{key: v.numpy() for key, v in part.items()} for part in parts])


def in_session(path, images):
    import tensorflow as tf

    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        signature = graph.signature_def["serving_default"]
        outputs = {name: tensor.name for name, tensor in signature.outputs.items()}
        feed = signature.inputs["image"].name
        parts = [session.run(outputs, {feed: batch}) for batch in batches(images)]
    return answers.join(parts)


def in_cpp(path, images):
    with tempfile.TemporaryDirectory() as folder:
        program = cc_session.build(folder)
        return cc_session.run(program, path, images, batch_size=BATCH_SIZE)[0]


def near_threshold(scores, threshold):
    """Which scores float32 cannot tell from the threshold, a bool array."""
    return abs(scores.astype(float) - threshold) <= NEAR * max(1, abs(threshold))


def distance(score, threshold):
    return {
        "ood_score": float(score),
        "distance_to_threshold": abs(float(score) - threshold),
    }


def compare(live, answer, threshold, places):
    """How the decisions of a runtime differ from the live model's, a dict for JSON.

    Args:
        live, answer: Dicts of arrays with `ood_score` and `class_id`.
        threshold: The live model's.
        places: For each image what to call it, a dict for JSON.
    """
    differs = np.flatnonzero(live["class_id"] != answer["class_id"])
    near = near_threshold(live["ood_score"], threshold)
    difference = np.abs(answer["ood_score"].astype(float) - live["ood_score"])
    relative = difference / np.maximum(1, np.abs(live["ood_score"]))
    return {
        "equal_decisions": 1 - len(differs) / len(near),
        "differing_decisions": len(differs),
        "differing_not_near_threshold": int((~near[differs]).sum()),
        "largest_score_difference": float(difference.max()),
        "median_score_difference": float(np.median(difference)),
        "largest_relative_score_difference": float(relative.max()),
        "differing": [
            {
                **places[row],
                "live": int(live["class_id"][row]),
                "here": int(answer["class_id"][row]),
                **distance(live["ood_score"][row], threshold),
                "score_difference": float(difference[row]),
            }
            for row in differs[:MOST_LISTED]
        ],
    }


def judged(name, entry):
    """The entry of a runtime with its bars, and whether they are met."""
    bar = BARS[name]
    if bar is None:
        bars = {"differing_not_near_threshold": [0, "at most"]}
    else:
        bars = {"equal_decisions": [bar, "at least"]}
    if name in EIGHT_BITS:
        bars["auroc_difference_to_float32"] = [AUROC_BAR, "at most"]
    if name == "tflite_int8":
        bars["bytes_per_float32_byte"] = [INT8_BYTES_BAR, "at most"]
    met = all(
        entry[key] >= value if kind == "at least" else entry[key] <= value
        for key, (value, kind) in bars.items()
    )
    shown = {key: f"{kind} {value}" for key, (value, kind) in bars.items()}
    return {"bars": shown, "met": met, **entry}


def test_images(known, unknown, num_images):
    """`(images, is_unknown, places)`: known ones first, then the unknown ones.

    Args:
        known: The known test split.
        unknown: `{spec: test split}`; images are taken evenly from all.
        num_images: How many of each kind.
    """
    from ood_keras.pipelines.split import even_shares

    shares = even_shares(num_images, len(unknown))
    parts = {("known", known.source): known.take(min(num_images, len(known)))}
    for share, (spec, split) in zip(shares, unknown.items(), strict=True):
        parts["unknown", spec] = split.take(min(int(share), len(split)))
    places = [
        {"images": kind, "source": source, "index": index}
        for (kind, source), split in parts.items()
        for index in range(len(split))
    ]
    images = np.concatenate([split.images for split in parts.values()])
    is_unknown = np.array([place["images"] == "unknown" for place in places])
    return images.astype(np.float32) / 255, is_unknown, places


def convert(model, folder, known_images, unknown_images, progress):
    """Writes the ONNX and TFLite files; returns `{name: predictor}` and their bytes."""
    from ood_keras import export

    images = {"known_images": known_images, "unknown_images": unknown_images}
    progress("converting to ONNX")
    export.onnx(model, folder / "onnx", **images)
    progress("converting to TFLite, in four formats")
    export.tflite(model, folder / "tflite", **images)
    predictors = {"onnx": export.ONNXPredictor(folder / "onnx")}
    sizes = {"onnx": (folder / "onnx" / "model.onnx").stat().st_size}
    for name in BARS:
        kind = name.removeprefix("tflite_")
        if kind != name:
            file = folder / "tflite" / kind / "model.tflite"
            predictors[name] = export.TFLitePredictor(file)
            sizes[name] = file.stat().st_size
    return predictors, sizes


def quality(answer, is_unknown):
    """AUROC and FPR95 of an answer."""
    from ood_keras import metrics

    measured = metrics.evaluate_scores(
        answer["ood_score"][~is_unknown], answer["ood_score"][is_unknown]
    )
    kept = ("auroc", "fpr95_known_positive", "fpr95_unknown_positive")
    return {key: measured[key] for key in kept}


def measure(
    run_dir, model, data_dir=None, unknown=None, num_images=10_000, progress=print
):
    """The result, a dict for JSON.

    Args:
        run_dir: A run that was evaluated.
        model: The version folder of an export of it.
        data_dir: The folder of the data sets; default: the run's.
        unknown: Specs of unknown test sources; default: those of the run's evaluation
            that are real images.
        num_images: How many known images, and how many unknown ones.
        progress: Called with each line of progress.
    """
    import keras

    from ood_keras import detectors, pipelines
    from ood_keras.inference import manifest

    run_dir, model = pathlib.Path(run_dir), pathlib.Path(model)
    settings = json.loads((run_dir / "run.json").read_text())["settings"]
    description = manifest.read(model)
    name = description["detector"]["name"]
    threshold = description["threshold"]["value"]
    detector = detectors.load(
        run_dir / "detectors" / f"{name}.json",
        keras.models.load_model(run_dir / "model.keras"),
    )
    data_dir = data_dir or settings["data_dir"]
    known = pipelines.load(settings["known"], data_dir=data_dir)

    def load(spec):
        return pipelines.load(
            spec, data_dir=data_dir, image_shape=known.image_shape, known=known
        )

    if unknown is None:
        evaluated = json.loads((run_dir / "metrics.json").read_text())["detectors"]
        unknown = [spec for spec in evaluated[name]["unknown"] if spec not in MADE]
    tests = {spec: load(spec).test for spec in unknown}
    images, is_unknown, places = test_images(known.test, tests, num_images)
    progress(f"the live model decides for {len(images):,} images")
    live = live_answers(detector, threshold, images)
    accepted = live["class_id"] >= 0
    sources = collections.Counter(
        place["source"] for place in places if place["images"] == "unknown"
    )
    exposed = load(settings["unknown"][0]).validation
    with tempfile.TemporaryDirectory() as folder:
        predictors, sizes = convert(
            model,
            pathlib.Path(folder),
            known.validation.dataset(),
            exposed.take(min(2000, len(exposed))).dataset(),
            progress,
        )
    runs = {
        "saved_model": lambda: in_python(model, images),
        "session": lambda: in_session(model, images),
        "cpp": lambda: in_cpp(model, images),
        **{
            name: lambda predictor=predictor: predictor.predict(images)
            for name, predictor in predictors.items()
        },
    }
    runtimes = {}
    for runtime in BARS:
        if runtime == "cpp" and cc_session.missing():
            runtimes[runtime] = {"skipped": cc_session.missing()}
            progress(f"cpp: skipped, {cc_session.missing()}")
            continue
        start = time.perf_counter()
        answer = runs[runtime]()
        entry = compare(live, answer, threshold, places)
        if runtime == "saved_model" and entry["median_score_difference"] > 0.1:
            raise ValueError(
                f"the scores of {model} are not those of {run_dir}; expected a model "
                "that ood-export made from this run"
            )
        entry |= quality(answer, is_unknown)
        if runtime in sizes:
            entry["bytes"] = sizes[runtime]
        if runtime in QUANTISED:
            before = answers.at_threshold(answer, threshold, description["class_names"])
            float32 = runtimes["tflite_float32"]
            entry |= {
                "threshold": predictors[runtime].threshold,
                "equal_decisions_before_recalibration": float(
                    (before["class_id"] == live["class_id"]).mean()
                ),
                "auroc_difference_to_float32": abs(entry["auroc"] - float32["auroc"]),
                "bytes_per_float32_byte": entry["bytes"] / float32["bytes"],
            }
        runtimes[runtime] = judged(runtime, entry)
        progress(
            f"{runtime}: {entry['equal_decisions']:.4%} equal, "
            f"{entry['differing_not_near_threshold']} differ beyond rounding, "
            f"{'met' if runtimes[runtime]['met'] else 'NOT MET'} "
            f"({time.perf_counter() - start:.0f} s)"
        )
    return {
        "detector": name,
        "threshold": threshold,
        "model_manifest_sha256": description["manifest_sha256"],
        "seed": json.loads((run_dir / "run.json").read_text())["seed"],
        "known": known.name,
        "num_known": int((~is_unknown).sum()),
        "num_unknown": int(is_unknown.sum()),
        "unknown": dict(sources),
        "num_calibration": len(known.validation),
        "live": {
            "accepted_known": float(accepted[~is_unknown].mean()),
            "accepted_unknown": float(accepted[is_unknown].mean()),
            **quality(live, is_unknown),
        },
        "near_threshold": [
            {**places[row], **distance(live["ood_score"][row], threshold)}
            for row in np.flatnonzero(near_threshold(live["ood_score"], threshold))
        ],
        "runtimes": runtimes,
        "met": all(entry.get("met", True) for entry in runtimes.values()),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run_dir", required=True, type=pathlib.Path, help="a run after ood-evaluate"
    )
    parser.add_argument(
        "--model", required=True, help="DIR/VERSION that ood-export made from that run"
    )
    parser.add_argument(
        "--data_dir", help="folder of the data sets (default: the one the run names)"
    )
    parser.add_argument(
        "--unknown",
        help="specs of unknown test sources, with commas (default: the real ones that "
        "the run was evaluated with)",
    )
    parser.add_argument(
        "--num_images",
        type=int,
        default=10_000,
        help="known images, and as many unknown ones (default: %(default)s)",
    )
    parser.add_argument("--output", type=pathlib.Path, help="JSON file to write")
    arguments = parser.parse_args()

    from provenance import provenance

    from ood_keras.files import write_json
    from ood_keras.tools.command_flags import split_specs

    begun = provenance(
        *("tensorflow", "keras", "numpy", "onnx", "onnxruntime", "tf2onnx"),
        "ai-edge-litert",
    )
    result = {
        **measure(
            arguments.run_dir,
            arguments.model,
            arguments.data_dir,
            split_specs(arguments.unknown) or None,
            arguments.num_images,
            lambda line: print(line, file=sys.stderr, flush=True),
        ),
        **begun,
    }
    if arguments.output:
        write_json(arguments.output, result)
    else:
        print(json.dumps(result, indent=2))
    sys.exit(0 if result["met"] else 1)


if __name__ == "__main__":
    main()
