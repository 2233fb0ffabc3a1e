"""What rejection costs: an exported model against the bare classifier, side by side.

  python benchmarks/reject_head_overhead.py --run_dir=runs/mnist \\
      --model=saved_models/mnist/1 \\
      --output=benchmarks/results/reject_head_overhead.json

The bare classifier is the run's network with nothing but class and probabilities behind
its logits: no checks, no score, no threshold, no label. It is exported, converted and
run in the same ways as the model that rejects: SavedModel signature in Python, Session
callable, ONNX Runtime and TFLite on one thread each. The two take turns, call by call,
and swap who goes first, so that whatever else the machine does hits both; the ratio is
that of the medians, and `ratio_in_blocks` says how far it varied over the run. TFLite
files take one image at a time, so they are measured with batch 1 only. For a quiet
machine: the head's share of a batch of one is a tenth of a millisecond.

The bars are those of the unknown class's probability. The distances of all layers,
`benchmarks/results/reject_head_overhead_ensemble.json`, are measured alike: of a run
after `ood-evaluate --detectors=probability_and_distances`, exported by `ood-export`
with the same `--detector`.
How well the run was trained makes no difference to the time.
"""

import argparse
import itertools
import json
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BARS = {1: 1.20, 128: 1.05}
NUM_BLOCKS = 5
TENSORFLOW = ("saved_model", "session")
RUNTIMES = (*TENSORFLOW, "onnx", "tflite")


def export_bare(network, num_classes, path):
    """Exports class and probabilities of a `detectors.Network`, and nothing else."""
    import tensorflow as tf

    module = tf.Module()
    module.variables_of_network = [v.value for v in network.model.variables]
    spec = tf.TensorSpec((None, *network.image_shape), tf.float32, name="image")

    @tf.function(input_signature=[spec], autograph=False)
    def serve(image):
        known = network(image)["logits"][:, :num_classes]
        return {
            "class_id": tf.argmax(known, axis=-1, output_type=tf.int32),
            "probabilities": tf.nn.softmax(known),
        }

    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})


def convert_bare(path, image_shape, folder):
    """Contents of files converted as `export.onnx` and `export.tflite` convert."""
    import tensorflow as tf
    import tf2onnx

    from ood_keras.export.onnx_conversion import OPSET

    model = tf.saved_model.load(str(path))
    signature = model.signatures["serving_default"]
    spec = tf.TensorSpec((None, *image_shape), tf.float32, name="image")
    onnx, _ = tf2onnx.convert.from_function(
        tf.function(lambda image: signature(image=image), autograph=False),
        input_signature=[spec],
        opset=OPSET,
    )
    one = tf.TensorSpec((1, *image_shape), tf.float32, name="image")
    module = tf.Module()
    module.model = model
    serve = tf.function(lambda image: signature(image=image), input_signature=[one])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=["serving_default"]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return onnx.SerializeToString(), converter.convert()


def in_python(path, images):
    """Calls the signature as a Python program does; the tensor is there already."""
    import tensorflow as tf

    model = tf.saved_model.load(str(path))
    signature, image = model.signatures["serving_default"], tf.constant(images)

    def run(model=model):  # Its functions live no longer than the model.
        signature(image=image)["class_id"].numpy()

    return run


def in_session(path, images):
    """Runs a Session, the C++ server's way, with all outputs of the signature."""
    import tensorflow as tf

    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        signature = graph.signature_def["serving_default"]
        outputs = [tensor.name for tensor in signature.outputs.values()]
        call = session.make_callable(outputs, [signature.inputs["image"].name])
    return lambda: call(images)


def in_onnx(content, images, **inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    inputs = {session.get_inputs()[0].name: images, **inputs}
    return lambda: session.run(None, inputs)


def in_tflite(content, images):
    from ood_keras.inference.tflite_predictor import runner

    run = runner(content, num_threads=1)
    return lambda: run(image=images)


def side_by_side(bare, head, rounds):
    """Medians of two functions that take turns, and their ratio, a dict for JSON."""
    import numpy as np

    for _, function in itertools.product(range(max(5, rounds // 20)), (bare, head)):
        function()
    milliseconds = np.empty((rounds, 2))
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter_ns()
            (bare, head)[side]()
            milliseconds[turn, side] = (time.perf_counter_ns() - start) / 1e6
    medians = np.median(milliseconds, axis=0).tolist()
    ratios = []
    for block in np.array_split(milliseconds, NUM_BLOCKS):
        base, ours = np.median(block, axis=0).tolist()
        ratios.append(ours / base)
    return {
        "bare_ms": round(medians[0], 4),
        "head_ms": round(medians[1], 4),
        "ratio": round(medians[1] / medians[0], 3),
        "ratio_in_blocks": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def measure(run_dir, model, rounds, runtimes=RUNTIMES, progress=print):
    """The result, a dict for JSON.

    Args:
        run_dir: A run that was evaluated.
        model: The version folder of an export of it.
        rounds: `{batch size: rounds}`.
        runtimes: Some of `RUNTIMES`.
        progress: Called with each line of progress.
    """
    import keras
    import numpy as np

    from ood_keras import detectors, export
    from ood_keras.export import parity

    run_dir, model = pathlib.Path(run_dir), pathlib.Path(model)
    manifest = export.load(model).manifest
    name = manifest["detector"]["name"]
    detector = detectors.load(
        run_dir / "detectors" / f"{name}.json",
        keras.models.load_model(run_dir / "model.keras"),
    )
    image_shape = detector.network.image_shape
    samples = parity.probes(image_shape)
    limit = np.array(manifest["threshold"]["value"], np.float32)
    result = {"detector": name, "image_shape": list(image_shape), "runtimes": {}}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        export_bare(detector.network, detector.num_classes, folder / "bare")
        if not set(runtimes) <= set(TENSORFLOW):
            progress("converting")
            export.onnx(model, folder / "onnx", known_images=samples)
            export.tflite(
                model, folder / "lite", known_images=samples, formats=["float32"]
            )
            bare_onnx, bare_tflite = convert_bare(
                folder / "bare", image_shape, folder / "bare_for_tflite"
            )
            onnx = (folder / "onnx" / "model.onnx").read_bytes()
            tflite = (folder / "lite" / "float32" / "model.tflite").read_bytes()
        for runtime, batch_size in itertools.product(runtimes, rounds):
            if runtime == "tflite" and batch_size > 1:
                continue
            # Not the first, which is black.
            images = samples[1 + np.arange(batch_size) % (len(samples) - 1)]
            bare, head = {
                "saved_model": lambda images: (
                    in_python(folder / "bare", images),
                    in_python(model, images),
                ),
                "session": lambda images: (
                    in_session(folder / "bare", images),
                    in_session(model, images),
                ),
                "onnx": lambda images: (
                    in_onnx(bare_onnx, images),
                    in_onnx(onnx, images, threshold=limit),
                ),
                "tflite": lambda images: (
                    in_tflite(bare_tflite, images),
                    in_tflite(tflite, images),
                ),
            }[runtime](images)
            found = side_by_side(bare, head, rounds[batch_size])
            bar = BARS.get(batch_size)
            if bar is not None:
                found |= {"bar": bar, "met": found["ratio"] <= bar}
            found["rounds"] = rounds[batch_size]
            result["runtimes"].setdefault(runtime, {})[f"batch_{batch_size}"] = found
            progress(f"{runtime}, batch {batch_size}: {found}")
    return result


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
        "--runtimes",
        default=",".join(RUNTIMES),
        help="which to measure, with commas (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=2000,
        help="turns for batch 1; a tenth of it for batch 128 (default: %(default)s)",
    )
    parser.add_argument("--output", type=pathlib.Path, help="JSON file to write")
    arguments = parser.parse_args()
    runtimes = arguments.runtimes.split(",")
    if not set(runtimes) <= set(RUNTIMES):
        parser.error(f"--runtimes takes some of {','.join(RUNTIMES)}")

    from provenance import provenance

    from ood_keras.files import write_json

    packages = ("tensorflow", "keras", "numpy", "onnxruntime", "ai-edge-litert")
    begun = provenance(*packages)
    rounds = {1: arguments.rounds, 128: max(1, arguments.rounds // 10)}
    result = {
        **measure(
            arguments.run_dir,
            arguments.model,
            rounds,
            runtimes,
            lambda line: print(line, file=sys.stderr, flush=True),
        ),
        **begun,
    }
    print(json.dumps(result, indent=2))
    if arguments.output:
        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
