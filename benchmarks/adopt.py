"""What it takes to adopt networks of real size: time, memory, formats, acceptance.

  python benchmarks/adopt.py --known='cifar10[0-4]' --unknown='cifar10[5-9]' \\
      --data_dir=DATA --pictures=1000 --output=benchmarks/results/adopt.json

Networks of `keras.applications` and a vision transformer at their usual size, with
random weights and a last layer that is solved for the known classes by least squares on
their random features: no weights need to be had, and time, memory and formats do not
depend on them. How well it rejects does, so this says nothing about that; but that the
known pictures are accepted as files at the promised rate, and that every format decides
as the SavedModel, is the same task. Each network runs in a process of its own, whose
peak memory is the whole process's, Keras and TensorFlow among it.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NETWORKS = ("MobileNetV2", "EfficientNetV2B0", "ViT", "ConvNeXtTiny")


def build(name, side):
    """A body without a head, which takes pixels from 0 to 255."""
    import keras

    keras.utils.set_random_seed(0)
    shape = (side, side, 3)
    options = {"weights": None, "include_top": False, "pooling": "avg"}
    if name == "ViT":
        return build_vit(shape)
    if name == "MobileNetV2":  # The only one without its preprocessing inside.
        base = keras.applications.MobileNetV2(shape, **options)
        images = keras.Input(shape)
        scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
        return keras.Model(images, base(scaled))
    return getattr(keras.applications, name)(input_shape=shape, **options)


def build_vit(shape, width=192, depth=12, heads=3, patch=16):
    """The body of a ViT-Ti/16 (Dosovitskiy et al. 2021, Touvron et al. 2021)."""
    import keras
    from keras import layers

    images = keras.Input(shape)
    hidden = layers.Rescaling(1 / 127.5, offset=-1)(images)
    hidden = layers.Conv2D(width, patch, strides=patch)(hidden)
    count = (shape[0] // patch) ** 2
    hidden = layers.Reshape((count, width))(hidden)
    places = layers.Embedding(count, width)(keras.ops.arange(count)[None])
    hidden = hidden + places
    for _ in range(depth):
        normal = layers.LayerNormalization(epsilon=1e-6)(hidden)
        attended = layers.MultiHeadAttention(heads, width // heads)(normal, normal)
        hidden = layers.Add()([hidden, attended])
        normal = layers.LayerNormalization(epsilon=1e-6)(hidden)
        wide = layers.Dense(4 * width, activation="gelu")(normal)
        hidden = layers.Add()([hidden, layers.Dense(width)(wide)])
    hidden = layers.LayerNormalization(epsilon=1e-6)(hidden)
    return keras.Model(images, layers.GlobalAveragePooling1D()(hidden))


def solve_head(body, images, labels, num_classes):
    """`body` with a softmax that is solved on its features of some known pictures."""
    import keras
    import numpy as np

    for layer in body._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # Once over some pictures stands for training.
    body(images[:64].astype(np.float32), training=True)
    features = body.predict(images.astype(np.float32), batch_size=32, verbose=0)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    columns = np.concatenate(
        [(features - mean) / deviation, np.ones((len(features), 1))], axis=1
    )
    ridge = 0.1 * len(columns) * np.eye(columns.shape[1])
    target = 8 * np.eye(num_classes)[labels]
    solved = np.linalg.solve(columns.T @ columns + ridge, columns.T @ target)
    kernel = solved[:-1] / deviation[:, None]
    last = keras.layers.Dense(num_classes, "softmax", name="predictions")
    network = keras.Model(body.inputs, last(body.output))
    last.set_weights([kernel, solved[-1] - mean @ kernel])
    return network


def measure(name, arguments):
    """Adopts one network, and returns what it took, a dict for JSON."""
    import ood_keras
    from ood_keras import pipelines

    side = arguments.side
    body = build(name, side)
    known = pipelines.load(
        arguments.known, data_dir=arguments.data_dir, image_shape=(side, side, 3)
    )
    some = known.train.take(min(len(known.train), arguments.pictures))
    network = solve_head(body, some.images, some.labels, known.num_classes)
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        adopted = ood_keras.adopt(
            network,
            arguments.known,
            arguments.unknown.split(";"),
            output=pathlib.Path(folder) / "adopted",
            data_dir=arguments.data_dir,
            renderings="none",
        )
        seconds = time.monotonic() - start
        parity = {
            path.parent.name: json.loads(path.read_text())["files"]
            for path in adopted.run_dir.glob("*/parity.json")
        }
    return {
        "parameters": int(sum(weight.numpy().size for weight in network.weights)),
        "seconds": round(seconds),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "pictures": {role: len(known.split(role)) for role in known.roles},
        "pixels": adopted.found["pixels"]["name"],
        "accuracy": adopted.report.metrics["known"]["accuracy"],
        "selected_detector": adopted.found["selected_detector"],
        "detectors": len(adopted.report.metrics["detectors"]),
        "promise": adopted.found["promise"],
        "formats": {
            form: entry["equal_decisions_after"]
            for files in parity.values()
            for form, entry in files.items()
        },
        "left_out": adopted.left_out,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--known", required=True)
    parser.add_argument("--unknown", required=True, help="separated by semicolons")
    parser.add_argument("--data_dir")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--pictures", type=int, default=1000, help="to solve the head")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        arguments.output.write_text(json.dumps(measure(arguments.networks, arguments)))
        return
    from provenance import provenance

    from ood_keras.files import write_json

    result = {
        "known": arguments.known,
        "unknown": arguments.unknown,
        "side": arguments.side,
        "networks": {},
        **provenance("keras", "tensorflow"),
    }
    for name in arguments.networks.split(","):
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            own = [f"--networks={name}", "--one", f"--output={file.name}"]
            # The last of a flag counts.
            command = [sys.executable, *sys.argv, *own]
            subprocess.run(command, check=True)
            result["networks"][name] = json.loads(pathlib.Path(file.name).read_text())
        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
