"""What it takes to adopt networks of real size: time, memory, formats, acceptance.

  python benchmarks/adopt.py --data_dir=DATA --output=benchmarks/results/adopt.json

Each network of `adopt_networks.py` is made and saved in one process, adopted by the
command `ood-adopt` in a second, on a folder of picture files, and looked at in a third:
is the file the same, does the export answer as the network does, how many known
pictures that nobody has seen are accepted as files. Time is that of the command, by the
clock and of the processor, which other work beside it does not change; memory is the
peak of its whole process, Keras and TensorFlow among it, and the peak of what is
private to it: pages of files, which the system can drop, are not in that. A network
that needs a package which is not installed is left out. A network that is measured
later is added to the same file.

Known are digits, flowers and vehicles, grey and coloured files of 28 to 128 pixels,
which features of random networks tell apart; unknown are animals and letters.
"""

import argparse
import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent / "tests/export"))
_LOOKED_AT = 64


def unpack(data_dir, kind, folder):
    """Lays the pictures of a network out as its user would have them."""
    from adopt_networks import UNKNOWN

    for part, classes, total in (
        ("known", kind.classes, kind.num_known),
        ("unknown", UNKNOWN, kind.num_unknown),
    ):
        for label in classes:
            files = take_files(data_dir, label, total // len(classes))
            for number, (name, content) in enumerate(files):
                role = ("train", "train", "validation", "test")[number % 4]
                file = folder / part / role / label / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)


def take_files(data_dir, label, count):
    """`count` picture files of a kind, `(name, bytes)`: JPEG of flowers, else PNG."""
    from adopt_networks import ORIGINS

    if label == "flower":
        archive = zipfile.ZipFile(pathlib.Path(data_dir) / "flowers/images.zip")
        names = sorted(name for name in archive.namelist() if "sunflower/" in name)
        names = [name for name in names if name.endswith(".jpg")]
        return [
            (pathlib.PurePath(name).name, archive.read(name)) for name in names[:count]
        ]
    from browser_runs import png

    spec, name = ORIGINS[label]
    split = load(spec, data_dir)
    rows = (split.labels == split.class_names.index(name)).nonzero()[0][:count]
    return [(f"{label}{row}.png", png(split.images[row])) for row in rows]


@functools.cache
def load(spec, data_dir):
    from ood_keras import pipelines

    return pipelines.load(spec, data_dir=data_dir).test


def read(folder, classes, side):
    """The pictures of a folder, uint8, their labels and files, as training reads."""
    import numpy as np

    from ood_keras.inference import pillow_decoder

    files = [file for label in classes for file in sorted((folder / label).iterdir())]
    images = [
        pillow_decoder.decode(file.read_bytes(), (side, side, 3)) for file in files
    ]
    labels = [classes.index(file.parent.name) for file in files]
    return np.stack(images), np.array(labels), files


def make(name, folder):
    """Makes one network and saves it; writes how many parameters it has."""
    import keras
    from adopt_networks import KINDS, count_parameters

    kind = KINDS[name]
    keras.utils.set_random_seed(0)
    images, labels, _ = read(folder / "known/train", kind.classes, kind.side)
    network = kind.make(images, labels)
    if kind.preset:
        network.save_to_preset(str(folder / "network"))
    else:
        network.save(folder / "network.keras")
    (folder / "made.json").write_text(
        json.dumps({"parameters": count_parameters(network)})
    )


def check(name, folder):
    """Compares the export with the network, and gives it pictures that it never saw."""
    import numpy as np
    from adopt_networks import KINDS, UNKNOWN

    from ood_keras import export

    kind = KINDS[name]
    images, _, files = read(folder / "known/test", kind.classes, kind.side)
    predictor = export.load(folder / "adopted/saved_model/1")
    network = open_network(folder, kind)
    some = images[:_LOOKED_AT]
    own = network.predict(kind.pixels(some), verbose=0, batch_size=16)
    own = own["classes"] if isinstance(own, dict) else own
    served = predictor.predict(some / np.float32(255), threshold=np.inf)
    own = probabilities(own)
    answer = predictor.predict_bytes([file.read_bytes() for file in files])
    _, _, others = read(folder / "unknown/test", UNKNOWN, kind.side)
    unknown = predictor.predict_bytes([file.read_bytes() for file in others])
    (folder / "checked.json").write_text(
        json.dumps(
            {
                "largest_difference": float(
                    np.abs(own - served["probabilities"]).max()
                ),
                "new_known_files": len(files),
                "new_known_accepted": int(answer["accepted"].sum()),
                "new_unknown_files": len(others),
                "new_unknown_rejected": int((~unknown["accepted"]).sum()),
            }
        )
    )


def open_network(folder, kind):
    import keras

    if not kind.preset:
        return keras.saving.load_model(folder / "network.keras", compile=False)
    import keras_hub

    task = keras_hub.models.ImageClassifier.from_preset(str(folder / "network"))
    # Its preprocessor is what is tested, so it is left aside.
    task.preprocessor = None
    return task


def probabilities(values):
    """Of one sigmoid, a softmax, or logits."""
    import numpy as np

    if values.shape[-1] == 1:
        return np.concatenate([1 - values, values], axis=-1)
    if np.all(values >= 0) and np.allclose(values.sum(-1), 1, atol=1e-4):
        return values
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def checksum(path):
    """One for a file, or for all files of a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        if file.is_file():
            total.update(file.read_bytes())
    return total.hexdigest()


def measure(name, arguments):
    """Adopts one network by the command; returns what it took, a dict for JSON."""
    from adopt_networks import KINDS

    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        unpack(arguments.data_dir, kind, folder)
        step(name, "make", folder)
        network = folder / ("network" if kind.preset else "network.keras")
        before = checksum(network)
        output, cost = adopt(
            f"--model={network}",
            f"--known=folder:{folder / 'known'}",
            f"--unknown=folder:{folder / 'unknown'}",
            f"--output={folder / 'adopted'}",
            "--renderings=none",
            *kind.flags,
        )
        print(output, flush=True)
        unchanged = checksum(network) == before
        step(name, "check", folder)
        return {
            **json.loads((folder / "made.json").read_text()),
            "side": kind.side,
            "pictures": {
                part: {
                    role: len(list((folder / part / role).rglob("*.*")))
                    for role in ("train", "validation", "test")
                }
                for part in ("known", "unknown")
            },
            **cost,
            "file_unchanged": unchanged,
            **describe(folder / "adopted"),
            **json.loads((folder / "checked.json").read_text()),
        }


def adopt(*flags):
    """Runs the command; returns what it says and what it took, a dict for JSON."""
    command = [sys.executable, "-m", "ood_keras.tools.adopt", *flags]
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(_HERE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    private = []
    watch = threading.Thread(target=watch_memory, args=(process.pid, private))
    watch.start()
    output = process.stdout.read()
    # It ends when the process has, which nobody has waited for yet.
    watch.join()
    # Python's own wait tells no memory.
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed:\n{output[-4000:]}")
    return output, {
        "seconds": round(time.monotonic() - start),
        "processor_seconds": round(used.ru_utime + used.ru_stime),
        "peak_memory_mb": used.ru_maxrss // 1024,
        "peak_private_mb": max(private) // 1024,
    }


def watch_memory(pid, seen):
    """Notes the private memory of a process, in KiB, until it ends."""
    status = pathlib.Path(f"/proc/{pid}/status")
    while found := re.search(r"RssAnon:\s+(\d+)", status.read_text()):
        seen.append(int(found[1]))
        time.sleep(0.1)


def describe(run_dir):
    """What the run says of itself."""
    found = json.loads((run_dir / "adoption.json").read_text())
    metrics = json.loads((run_dir / "metrics.json").read_text())
    formats = json.loads((run_dir / "formats.json").read_text())
    files = {}
    for path in run_dir.glob("*/parity.json"):
        files |= json.loads(path.read_text())["files"]
    return {
        "pixels": found["pixels"]["name"],
        "pixels_found_by": found["pixels_found_by"],
        "accuracy": metrics["known"]["accuracy"],
        "detectors": len(metrics["detectors"]),
        "selected_detector": found["selected_detector"],
        "detectors_left_out": found["detectors_left_out"],
        "promise": found["promise"],
        "formats": {
            form: {
                "equal_decisions": files[form]["equal_decisions_after"],
                "bytes": files[form]["bytes"],
            }
            if form in files
            else {}
            for form in formats["written"]
        },
        "formats_left_out": found["formats_left_out"],
    }


def step(name, what, folder):
    """One step in a process of its own."""
    command = [sys.executable, __file__, f"--{what}={name}", f"--folder={folder}"]
    subprocess.run(command, check=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir")
    parser.add_argument("--networks", help="some of them, separated by semicolons")
    parser.add_argument("--output", type=pathlib.Path)
    for hidden in ("--make", "--check", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        return make(arguments.make, pathlib.Path(arguments.folder))
    if arguments.check:
        return check(arguments.check, pathlib.Path(arguments.folder))
    if not arguments.output or not arguments.data_dir:
        parser.error("--data_dir and --output are needed")
    import importlib.util

    from adopt_networks import KINDS
    from provenance import provenance

    from ood_keras.files import write_json

    has_hub = importlib.util.find_spec("keras_hub") is not None
    packages = ["keras", "tensorflow", *(["keras-hub"] if has_hub else [])]
    networks = {}
    if arguments.output.exists():
        # Further ones are added; each says under which load it was measured.
        networks = json.loads(arguments.output.read_text())["networks"]
    made_with = provenance(*packages)
    for name in (arguments.networks or ";".join(KINDS)).split(";"):
        if KINDS[name].preset and not has_hub:
            print(f"{name}: keras-hub is not installed")
            continue
        networks[name] = measure(name, arguments)
        networks[name]["load_average"] = round(os.getloadavg()[0], 1)
        result = {
            "networks": {kind: networks[kind] for kind in KINDS if kind in networks},
            "left_out": [kind for kind in KINDS if kind not in networks],
            **made_with,
        }
        write_json(arguments.output, result)
    return None


if __name__ == "__main__":
    main()
