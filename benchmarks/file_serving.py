"""Files against arrays in one exported model, and hostile files against honest ones.

  python benchmarks/file_serving.py --model=saved_models/mnist/1 \\
      --output=benchmarks/results/file_serving.json

First part: how many images a second the SavedModel scores from arrays
(`serving_default`) and from files of the model's own size (`predict_bytes`), in batches
of 256 that take turns, and the ratio of the two. Files of other sizes and formats are
measured as well.

Second part: the files that are known to cost most, each against an honest file of about
as many bytes and of the same declared size, in the graph (the whole answer) and without
TensorFlow (`pillow_decoder`). It fails if one costs more than `--most` times the honest
one. The request of many empty files is told by its memory. Times are processor time, so
that other programs on the machine disturb them little.
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import struct
import time
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from provenance import provenance

from ood_keras import machine
from ood_keras.files import write_json

BATCH_SIZE = 256
NUM_EMPTY = 30_000
# What deflate makes of one byte at best.
RATIO = 1032


def encoded(pixels, kind="PNG", **options):
    from PIL import Image

    buffer = io.BytesIO()
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def drawing(generator, height, width, channels):
    """Like a photograph to a compressor: smooth with some noise."""
    steps = generator.integers(-3, 4, (height, width, channels))
    return np.cumsum(steps, axis=1).astype(np.uint8)


def chunk(kind, data):
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(height, width, data, bits=8, colour=2, extra=b""):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def surplus(height, width, packed):
    """A PNG of `packed` bytes, nearly all of them behind its last row."""
    rows = height * (1 + 3 * width)
    return png(height, width, zlib.compress(bytes(rows + RATIO * packed), 9))


def pairs(image_shape):
    """`{name: (hostile, honest)}`: of like sizes, the bytes of files."""
    from ood_keras.image_files import max_packed_bytes

    generator = np.random.default_rng(0)
    height, width, channels = image_shape
    own = drawing(generator, height, width, channels)
    rows = b"".join(b"\0" + row.tobytes() for row in own)
    colour = channels - 1
    photograph = drawing(generator, 600, 600, 3)
    honest = encoded(photograph)
    jpeg = encoded(own, "JPEG")
    large = np.full((2048, 2048), 128, np.uint8)[..., np.newaxis]
    progressive = encoded(large, "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    half_megabyte = generator.bytes(480_000)
    return {
        "PNG of the model's size, all it may hold behind its last row": (
            png(
                height,
                width,
                zlib.compress(rows + bytes(RATIO * len(rows)), 9),
                colour=colour,
            ),
            encoded(own),
        ),
        "PNG of the model's size, 1 GB behind its last row": (
            png(height, width, zlib.compress(rows + bytes(2**30), 9), colour=colour),
            encoded(own) + generator.bytes(1_000_000),
        ),
        "PNG of 600 x 600, as many bytes behind its last row as a photograph has": (
            surplus(600, 600, len(honest)),
            honest,
        ),
        "PNG of 600 x 600, all that it may hold behind its last row": (
            surplus(600, 600, max_packed_bytes(600 * 1801, 600) - 9000),
            encoded(generator.integers(0, 256, (600, 600, 3)).astype(np.uint8)),
        ),
        "PNG of 40,000 empty text chunks": (
            png(
                height,
                width,
                zlib.compress(rows),
                colour=colour,
                extra=chunk(b"tEXt", b"") * 40_000,
            ),
            png(
                height,
                width,
                zlib.compress(rows),
                colour=colour,
                extra=chunk(b"tEXt", b"a\0" + half_megabyte),
            ),
        ),
        "JPEG of 120,000 empty comments": (
            jpeg[:2] + b"\xff\xfe\0\2" * 120_000 + jpeg[2:],
            jpeg + half_megabyte,
        ),
        "JPEG of 240,000 start-of-scan markers": (
            jpeg[:2] + b"\xff\xda" * 240_000 + jpeg[2:],
            jpeg + half_megabyte,
        ),
        "JPEG of 2048 x 2048 with 60 scans": (
            progressive[:last] + progressive[last:-2] * 50 + progressive[-2:],
            progressive,
        ),
    }


def seconds(function, content, rounds):
    function(content)
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function(content)
        times.append(time.process_time() - start)
    return min(times)


def multiples(predict, image_shape, rounds):
    from ood_keras.inference import pillow_decoder

    results = {}
    for name, files in pairs(image_shape).items():
        results[name] = result = {"bytes": [len(content) for content in files]}
        for path, decode in (
            ("graph", lambda content: predict([content])),
            ("edge", lambda content: pillow_decoder.decode(content, image_shape)),
        ):
            hostile, honest = (seconds(decode, content, rounds) for content in files)
            result[path] = {
                "seconds": round(hostile, 4),
                "honest_seconds": round(honest, 4),
                "multiple": round(hostile / honest, 1),
            }
    return results


def rates(arrays, predict, image_shape, rounds):
    generator = np.random.default_rng(1)
    height, width, channels = image_shape
    pixels = [drawing(generator, height, width, channels) for _ in range(BATCH_SIZE)]
    images = np.stack(pixels).astype(np.float32) / 255
    padded = [np.pad(image, ((2, 2), (2, 2), (0, 0))) for image in pixels]
    kinds = {
        "PNG of the model's size": [encoded(image) for image in pixels],
        "PNG, 4 pixels larger": [encoded(image) for image in padded],
        "JPEG of the model's size": [encoded(image, "JPEG") for image in pixels],
    }
    runs = {"arrays": lambda: arrays(images)}
    for name, files in kinds.items():
        runs[name] = lambda files=files: predict(files)
    times = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            valid = run()
            times[name].append(time.perf_counter() - start)
            if not valid.all():
                raise RuntimeError(f"{name}: an honest image was refused")
    # In the first turn everything is made.
    images_a_second = {
        name: BATCH_SIZE / statistics.median(taken[1:]) for name, taken in times.items()
    }
    ratios = {
        name: statistics.median(
            array / file
            for array, file in zip(times["arrays"][1:], taken[1:], strict=True)
        )
        for name, taken in times.items()
    }
    return {
        name: {
            "images_a_second": round(images_a_second[name]),
            "ratio_to_arrays": round(ratios[name], 3),
        }
        for name in runs
    }


def memory(predict):
    """Megabytes that a request of many empty files adds to the largest use so far."""
    before = machine.peak_memory()
    start = time.process_time()
    predict([b""] * NUM_EMPTY)
    used = time.process_time() - start
    after = machine.peak_memory()
    return {
        "files": NUM_EMPTY,
        "megabytes_more": round((after - before) / 2**20, 1),
        "seconds": round(used, 2),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mnist", help="an exported model")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each kind")
    parser.add_argument(
        "--most",
        type=float,
        default=250,
        help="the largest multiple of an honest file that is no failure",
    )
    parser.add_argument("--output", type=pathlib.Path, help="where to write JSON")
    arguments = parser.parse_args()
    import tensorflow as tf

    from ood_keras.inference.shipped_models import locate

    measured_on = provenance("tensorflow", "pillow")
    folder = locate(arguments.model)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    image_shape = tuple(manifest["input"]["image"]["shape"][1:])
    signatures = tf.saved_model.load(str(folder)).signatures

    def arrays(images):
        images = tf.constant(images)
        return signatures["serving_default"](image=images)["valid"].numpy()

    def predict(files):
        files = tf.constant(files, tf.string)
        return signatures["predict_bytes"](image_bytes=files)["valid"].numpy()

    # Each kind of file once, so that what is made once is not counted.
    predict([b""])
    result = {
        "model": arguments.model,
        "batch_size": BATCH_SIZE,
        "rounds": arguments.rounds,
        "many_empty_files": memory(predict),
        "rates": rates(arrays, predict, image_shape, arguments.rounds),
        "hostile": multiples(predict, image_shape, max(1, arguments.rounds // 10)),
    }
    result["largest_multiple"] = max(
        hostile[path]["multiple"]
        for hostile in result["hostile"].values()
        for path in ("graph", "edge")
    )
    result |= measured_on
    print(json.dumps(result, indent=2))
    if result["largest_multiple"] > arguments.most:
        raise SystemExit(
            f"a file costs {result['largest_multiple']} times an honest one; expected "
            f"at most {arguments.most}"
        )
    if arguments.output:
        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
