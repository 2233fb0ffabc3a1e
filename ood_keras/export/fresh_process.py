"""Runs an exported model far from the code that made it, and says what it saw.

Run by path, never imported: `python -P fresh_process.py`. Once it has loaded
TensorFlow, it reads `[FOLDER, EXPECTED, REPORT]` from its standard input, as JSON. This
process has neither `ood_keras` nor Keras, and opens the SavedModel as strangers will:
through a Session, as TensorFlow Serving does, and through `tf.saved_model.load`.
EXPECTED is an `.npz` of `images`, the `threshold` of each, its `rounding`, which is
what the last bits of its pixels do to the live model, and the live model's
`ood_score`, `logits`, `features`, `accepted`, `class_id` and `label`; and, where there
are known images to try the promise of the threshold on, these as `known_images` and, in
8 bits, as `known_pixels`. REPORT is where to write JSON.
"""

import concurrent.futures
import gc
import json
import sys
from typing import Any

# TensorFlow makes so many objects as it loads that looking for garbage among them
# takes long; and this process soon ends.
gc.disable()
# What is None here cannot be imported, not even by TensorFlow.
sys.modules["keras"] = sys.modules["ood_keras"] = None  # type: ignore[assignment]

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

# Not the batch size that the live model was run with.
BATCH_SIZE = 7
# Rounding differs with the batch size; what it may amount to, relative to the value or
# to 1, whichever is larger.
TOLERANCE = 1e-4
# A decision may differ only where it hangs on less than this, and is then listed.
NEAR = 1e-6
# Where the last bits of an image's pixels move the live model by more, so many times of
# that: sums of another order round more than one bit.
ROUNDINGS = 30


class InSession:
    """The model as a C++ server opens it."""

    name: str = "session"

    def __init__(self, folder: str) -> None:
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], folder)
        self._signatures = meta_graph.signature_def

    def run(self, signature: Any, **inputs: Any) -> dict[str, np.ndarray]:
        signature = self._signatures[signature]
        outputs = {name: info.name for name, info in signature.outputs.items()}
        feed = {signature.inputs[name].name: value for name, value in inputs.items()}
        return self._session.run(outputs, feed)


class InPython:
    """The model as a Python program opens it."""

    name: str = "saved_model_load"

    def __init__(self, folder: str) -> None:
        self._model = tf.saved_model.load(folder)

    def run(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        inputs = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = self._model.signatures[signature](**inputs)
        return {name: output.numpy() for name, output in outputs.items()}


def compare(
    model: InSession | InPython, expected: dict[str, np.ndarray]
) -> tuple[list[str], dict[str, Any]]:
    """Compares the decisions and the numbers for all images with the live model's."""
    images, failures = expected["images"], []
    batches = [
        images[start : start + BATCH_SIZE]
        for start in range(0, len(images), BATCH_SIZE)
    ]
    seen = {}
    for signature in ("serving_default", "features"):
        outputs = [model.run(signature, image=batch) for batch in batches]
        for name in outputs[0]:
            seen[name] = np.concatenate([output[name] for output in outputs])
    num_classes = seen["probabilities"].shape[1]
    known = expected["logits"][:, :num_classes].astype(np.float64)
    powers = np.exp(known - known.max(axis=1, keepdims=True))
    numbers = {
        "probabilities": powers / powers.sum(axis=1, keepdims=True),
        **{name: expected[name] for name in ("ood_score", "logits", "features")},
    }
    largest = {}
    rounding = find_rounding(expected)
    allowed = np.maximum(TOLERANCE, rounding)
    for name, live in numbers.items():
        difference = np.abs(seen[name] - live) / np.maximum(1, np.abs(live))
        of_image = difference.reshape(len(images), -1).max(axis=1)
        largest[name] = float(of_image.max())
        # Not the other way round, for NaN.
        wrong = np.flatnonzero(~(of_image <= allowed))
        if len(wrong):
            failures.append(
                f"{name} differs by up to {of_image[wrong].max():.2g}, relative to the "
                f"value or 1; allowed: {allowed[wrong].min():.2g}"
            )
    near = within(expected["ood_score"], expected["threshold"], rounding)
    # One class has no second best.
    best = np.sort(known, axis=1)[:, -2:]
    alike = within(best[:, 0], best[:, -1], rounding) & (best.shape[1] > 1)
    seen["label"] = np.array([label.decode() for label in seen["label"]])
    differ = np.any(
        [seen[name] != expected[name] for name in ("accepted", "class_id", "label")],
        axis=0,
    )
    rows = np.flatnonzero(differ & ~near & ~alike)
    if len(rows):
        failures.append(
            f"{len(rows)} of {len(images)} decisions differ, first for image {rows[0]}"
        )
    if not seen["valid"].all():
        failures.append(f"{(~seen['valid']).sum()} good images are called invalid")
    return failures, {
        "decisions_that_differ": int(differ.sum()),
        "near_threshold": np.flatnonzero(near).tolist(),
        "best_classes_alike": np.flatnonzero(alike).tolist(),
        "largest_difference": largest,
    }


def find_rounding(expected: dict[str, np.ndarray]) -> np.ndarray:
    """What rounding may do to the numbers of each image; 0 where that is little."""
    rounding = ROUNDINGS * expected["rounding"]
    return np.where(rounding > TOLERANCE, rounding, 0.0)


def within(
    left: np.ndarray, right: np.ndarray | float, rounding: np.ndarray
) -> np.ndarray:
    return np.abs(left - right) <= np.maximum(NEAR, rounding) * np.maximum(
        1, np.abs(right)
    )


def bad_input(
    model: InSession | InPython, expected: dict[str, np.ndarray]
) -> list[str]:
    """What the model does that it must not do with bad input; empty if nothing."""
    failures: list[str]
    images, failures = expected["images"], []
    rows = np.resize(np.arange(len(images)), 8)
    good = model.run("serving_default", image=images[rows])
    bad = images[rows]
    bad[1], bad[3, 0, 0], bad[5, -1, -1] = np.nan, np.inf, -np.inf
    bad[7] = np.maximum(bad[7], 0.1) * 255
    mixed = model.run("serving_default", image=bad)
    check_refused(mixed, [1, 3, 5, 7], "NaN, infinite or 0-255 pixels", failures)
    for name in good:
        if not np.array_equal(mixed[name][::2], good[name][::2]):
            failures.append(f"bad images change the {name} of their neighbours")
    limits = np.full(8, np.inf, np.float32)
    limits[0] = np.nan
    at = model.run("predict_at", image=bad, threshold=limits)
    if at["accepted"][[0, 1, 3, 5, 7]].any():
        failures.append("predict_at accepts bad images, or a threshold of NaN")
    if not at["accepted"][[2, 4, 6]].all():
        failures.append("predict_at rejects good images at an infinite threshold")
    empty = model.run("serving_default", image=images[:0])
    if any(len(output) for output in empty.values()):
        failures.append("an empty batch does not give an empty answer")
    for shape in ((1, images.shape[1] + 1, *images.shape[2:]), images.shape[1:]):
        try:
            model.run("serving_default", image=np.zeros(shape, np.float32))
        except (ValueError, TypeError, tf.errors.InvalidArgumentError):
            continue
        failures.append(f"images of shape {shape} are taken without an error")
    return failures


def image_files(
    model: InSession | InPython, expected: dict[str, np.ndarray]
) -> list[str]:
    """What is wrong with the answers to image files; empty if nothing."""
    failures = []
    pixels = np.rint(expected["images"][:8] * 255).astype(np.uint8)
    contents = [tf.io.encode_png(image).numpy() for image in pixels]
    direct = model.run("serving_default", image=pixels.astype(np.float32) / 255)
    broken = contents[0]
    junk = [b"", b"junk", broken[: len(broken) // 2], b"\xff\xd8\xff\xe0junk"]
    answers = model.run("predict_bytes", image_bytes=np.array(contents + junk, object))
    allowed = np.maximum(TOLERANCE, find_rounding(expected)[: len(contents)])
    for name in ("valid", "probabilities", "ood_score"):
        answer = answers[name][: len(contents)].reshape(len(contents), -1).T
        of_pixels = direct[name].reshape(len(contents), -1).T
        scale = 1 + np.abs(of_pixels)
        if not np.all(np.abs(answer * 1.0 - of_pixels) <= allowed * scale):
            failures.append(f"predict_bytes gives another {name} for the same pixels")
    junk_rows = range(len(contents), len(contents) + len(junk))
    check_refused(answers, list(junk_rows), "undecodable bytes", failures)
    return failures


def find_accepted(
    model: InSession | InPython, expected: dict[str, np.ndarray]
) -> dict[str, list[bool]]:
    """Which known images the model accepts, as pixels and, if it takes them, as files.

    Whether that is what the threshold promises is for the parent to say.
    """
    images, found = expected["known_images"], {}
    batches = range(0, len(images), BATCH_SIZE)
    answers = [
        model.run("serving_default", image=images[start : start + BATCH_SIZE])
        for start in batches
    ]
    found["pixels"] = join_accepted(answers)
    if images.shape[-1] in (1, 3):
        files = [tf.io.encode_png(image).numpy() for image in expected["known_pixels"]]
        answers = [
            model.run(
                "predict_bytes",
                image_bytes=np.array(files[start : start + BATCH_SIZE], object),
            )
            for start in batches
        ]
        found["files"] = join_accepted(answers)
    return found


def join_accepted(answers: list[dict[str, np.ndarray]]) -> list[bool]:
    return np.concatenate([answer["accepted"] for answer in answers]).tolist()


def check_refused(
    answers: dict[str, np.ndarray], rows: list[int], what: str, failures: list[str]
) -> None:
    if (
        answers["valid"][rows].any()
        or answers["accepted"][rows].any()
        or (answers["class_id"][rows] != -1).any()
        or answers["probabilities"][rows].any()
        or not np.isfinite(answers["ood_score"][rows]).all()
    ):
        failures.append(f"{what} are not refused")


def try_loader(
    loader: type[InSession] | type[InPython],
    folder: str,
    expected: dict[str, np.ndarray],
) -> tuple[list[str], dict[str, Any], dict[str, list[bool]]]:
    """What one loader shows of the model: failures, numbers, known images accepted."""
    failures: list[str] = []
    seen: dict[str, Any] = {}
    accepted: dict[str, list[bool]] = {}
    try:
        model = loader(folder)
        failures, seen = compare(model, expected)
        failures += bad_input(model, expected)
        if expected["images"].shape[-1] in (1, 3):
            failures += image_files(model, expected)
        # Once is enough: the loaders are compared.
        if loader is InSession and "known_images" in expected:
            accepted = find_accepted(model, expected)
    except Exception as error:  # Whatever it is, the export must not succeed.
        failures = [f"{type(error).__name__}: {error}"]
    return failures, seen, accepted


def main(folder: str, expected_path: str, report_path: str) -> None:
    with np.load(expected_path) as file:
        expected = dict(file)
    report: dict[str, Any] = {
        "images": len(expected["images"]),
        "batch_size": BATCH_SIZE,
        "loaders": {},
        "failures": [],
    }
    loaders: list[type[InSession] | type[InPython]] = [InSession, InPython]
    # Much of a first run is the making of one plan on one core.
    with concurrent.futures.ThreadPoolExecutor(len(loaders)) as pool:
        tried = list(
            pool.map(lambda loader: try_loader(loader, folder, expected), loaders)
        )
    for loader, (failures, seen, accepted) in zip(loaders, tried, strict=True):
        report["failures"] += [f"{loader.name}: {failure}" for failure in failures]
        report["loaders"] |= {loader.name: seen} if seen else {}
        report |= {"accepted": accepted} if accepted else {}
    with open(report_path, "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2, allow_nan=False)


if __name__ == "__main__":
    main(*json.load(sys.stdin))
