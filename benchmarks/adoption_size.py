"""How adoption grows with the training pictures: time and memory of `ood-adopt`.

  python benchmarks/adoption_size.py --output=benchmarks/results/adoption_size.json

A MobileNetV2 of usual size on pictures of 224 px, made as `adopt_networks.py` makes it,
adopted by the command with every detector that fits it, without renderings and other
formats. Known pictures are drawn: stripes, rings and checks of any colour, as JPEG
files; unknown ones are blobs. The validation and test pictures are as many at each
size, so what grows is what is fitted. Beside it, in the same run and on the same
processors, the processor time of the network alone on a picture that is in memory;
`processor_per_picture` is what one more training picture takes, in units of it:
reading and decoding it, running the network and learning of all detectors. Pixels lie
on disk, and the system keeps as much of their file in memory as is free: that is in
`peak_memory_mb`, and not in `peak_private_mb`. Sizes that the result has are not
measured again.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from adopt import adopt
from provenance import provenance

from ood_keras.files import write_json

SIZES = (1_000, 3_000, 10_000)
SIDE = 224
KNOWN, UNKNOWN = ("checks", "rings", "stripes"), ("blobs",)
# Of the other parts, of each class.
_NUM_OTHERS = 40
# Pictures of each class that the network's last layer is solved for.
_NUM_SOLVED = 60
_NUM_TIMED = 256


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    result = {"side": SIDE, **provenance("keras", "tensorflow"), "sizes": []}
    if arguments.output and arguments.output.exists():
        result["sizes"] = json.loads(arguments.output.read_text())["sizes"]
    measured = {one["pictures"] for one in result["sizes"]}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        result["network_processor_seconds"] = make_network(folder / "network.keras")
        for size in sorted(set(arguments.sizes) - measured):
            draw_part(folder / "known/train", KNOWN, size // len(KNOWN))
            for role in ("validation", "test"):
                draw_part(folder / "known" / role, KNOWN, _NUM_OTHERS)
            for role in ("train", "validation", "test"):
                draw_part(folder / "unknown" / role, UNKNOWN, _NUM_OTHERS)
            output, cost = adopt(
                f"--model={folder / 'network.keras'}",
                f"--known=folder:{folder / 'known'}",
                f"--unknown=folder:{folder / 'unknown'}",
                f"--output={folder / f'adopted_{size}'}",
                "--renderings=none",
                "--formats=",
            )
            print(output, flush=True)
            result["sizes"].append({"pictures": size, **cost})
            result["sizes"].sort(key=lambda one: one["pictures"])
            first, last = result["sizes"][0], result["sizes"][-1]
            if first is not last:
                result["processor_per_picture"] = round(
                    (last["processor_seconds"] - first["processor_seconds"])
                    / (last["pictures"] - first["pictures"])
                    / result["network_processor_seconds"],
                    2,
                )
            print(result["sizes"], flush=True)
            if arguments.output:
                write_json(arguments.output, result)


def make_network(path):
    """Saves the network; returns its own processor seconds for a picture."""
    import keras
    from adopt_networks import make_mobilenet

    keras.utils.set_random_seed(0)
    labels = np.arange(_NUM_SOLVED * len(KNOWN)) % len(KNOWN)
    images = np.stack(
        [draw(KNOWN[label], number) for number, label in enumerate(labels)]
    )
    network = make_mobilenet(images, labels)
    network.save(path)
    floats = images[np.arange(_NUM_TIMED) % len(images)].astype(np.float32) / 127.5 - 1
    network.predict(floats[:32], verbose=0)
    start = time.process_time()
    network.predict(floats, verbose=0, batch_size=32)
    return round((time.process_time() - start) / _NUM_TIMED, 5)


def draw_part(folder, classes, count):
    """Draws what is not there yet of `count` files of each class."""
    from PIL import Image

    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            file = folder / name / f"{number}.jpg"
            if not file.exists():
                place = f"{folder.parent.name}/{folder.name}/{number}"
                picture = draw(name, zlib.crc32(place.encode()))
                Image.fromarray(picture).save(file, quality=90)


def draw(name, seed):
    """A picture of a class, uint8 `(SIDE, SIDE, 3)`."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE
    turns = 2 * np.pi * random.uniform(2, 6)
    u, v = random.uniform(size=2)
    height = {
        "stripes": lambda: np.sin(turns * x),
        "rings": lambda: np.sin(turns * 2 * np.hypot(x - 0.5, y - 0.5)),
        "checks": lambda: np.sign(np.sin(turns * x) * np.sin(turns * y)),
        "blobs": lambda: np.exp(-30 * ((x - u) ** 2 + (y - v) ** 2)),
    }[name]()
    pixels = (height[..., np.newaxis] / 2 + 0.5) * random.uniform(size=3)
    pixels += random.normal(0, 0.05, (SIDE, SIDE, 1))
    return (255 * pixels.clip(0, 1)).astype(np.uint8)


if __name__ == "__main__":
    main()
