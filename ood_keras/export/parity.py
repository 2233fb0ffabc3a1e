"""An export proves itself: reloaded elsewhere, it decides as the live model does."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import tensorflow as tf

from ood_keras import files
from ood_keras.batches import eager_at_once
from ood_keras.calibration import any_threshold
from ood_keras.conventions import UNKNOWN, UNKNOWN_LABEL, accepts
from ood_keras.types import Answer, ImageShape, Json, LiveModel, Path

if TYPE_CHECKING:
    from ood_keras.calibration.any_threshold import AnyThreshold

_SCRIPT = pathlib.Path(__file__).with_name("fresh_process.py")
_BATCH_SIZE = 32


class ParityError(RuntimeError):
    """What was exported does not behave as the live model does; nothing was written."""


class FreshProcess:
    """A process that is to open what is exported; a context, which ends it.

    It loads TensorFlow, which takes seconds, while this one goes on.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT)],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        with self._process:
            self._process.kill()

    def compare(self, folder: Path, expected: str, report: str) -> None:
        """Compares a SavedModel with what is expected of it, and writes the report.

        Args:
            folder: The SavedModel.
            expected: An `.npz`, see `fresh_process.py`.
            report: Where to write JSON.

        Raises:
            ParityError: there is no report.
        """
        work = json.dumps([str(folder), expected, report])
        said = self._process.communicate(work.encode())[1].decode(errors="replace")
        if os.path.exists(report):
            return
        raise ParityError(
            "the exported model could not be tried in a fresh process, which ended "
            f"with code {self._process.returncode} and said:\n{said[-2000:]}"
        )


def check(
    process: FreshProcess,
    folder: Path,
    detector: LiveModel,
    threshold: "AnyThreshold",
    class_names: Sequence[str],
    images: np.ndarray,
    known: Any = None,
) -> Json:
    """Compares the SavedModel in `folder` with the live detector in a fresh process.

    The process imports neither `ood_keras` nor Keras. It opens the model through a
    Session and through `tf.saved_model.load`, runs the images in batches of another
    size, and tries NaN, infinite, 0-255 and wrongly shaped images, an empty batch and
    broken files. Both sides run on the CPU.

    Args:
        process: It can be used once.
        folder: The SavedModel.
        detector: The fitted detector that it was made from.
        threshold: The `calibration.Threshold` that it was made with, or the
            `ClassThresholds`.
        class_names: Labels of the known classes.
        images: Float32 `(num_images, height, width, channels)` in [0, 1].
        known: A `promise.Promise`, known images to try the threshold on, or `None`.

    Returns:
        The report, a dict for JSON. For each loader it lists the images whose decision
        hangs on less than 1e-6 (relative to values beyond 1), or on what rounding does
        to the live model there: `near_threshold`, and `best_classes_alike` by their
        logits. Only these may be decided otherwise. What became of `known` is under
        `promise`.

    Raises:
        ParityError: with what differs; a `PromiseError` if known images are rejected.
        ValueError: the live model itself gives NaN or infinite numbers.
    """
    extra = {}
    if known is not None:
        extra = {"known_images": known.images, "known_pixels": known.pixels}
    with tempfile.TemporaryDirectory(prefix=files.TEMPORARY) as temporary:
        expected = os.path.join(temporary, "expected.npz")
        report = os.path.join(temporary, "report.json")
        live = _live(detector, threshold, class_names, images)
        files.write_arrays(expected, live | extra)
        process.compare(folder, expected, report)
        with open(report, encoding="utf-8") as file:
            report = json.load(file)
    if report["failures"]:
        raise ParityError(
            "the exported model does not behave as the live one, so nothing was "
            "exported:\n  " + "\n  ".join(report["failures"])
        )
    if known is not None:
        report["promise"] = known.check(
            lambda images: _outputs(detector, images)["ood_score"],
            {way: np.array(found) for way, found in report.pop("accepted").items()},
            lambda images: _best(detector, _outputs(detector, images)),
        )
    return report


def images(image_shape: ImageShape, samples: np.ndarray | None = None) -> np.ndarray:
    """The images to compare on: the user's own, then noise.

    Args:
        image_shape: `(height, width, channels)`.
        samples: Float images `(num_images, height, width, channels)` in [0, 1].

    Returns:
        Float32 `(num_images, *image_shape)`.

    Raises:
        ValueError: `samples` are not images of this shape and range.
    """
    if samples is None:
        return probes(image_shape)
    samples = np.asarray(samples)
    is_float = np.issubdtype(samples.dtype, np.floating)
    if samples.shape[1:] != image_shape or not is_float:
        raise ValueError(
            f"`sample_images` must be float images {('num_images', *image_shape)} in "
            f"[0, 1]. Received: shape {samples.shape}, dtype {samples.dtype}"
        )
    if not np.all((samples >= 0) & (samples <= 1)):
        raise ValueError(
            "`sample_images` must lie in [0, 1]; divide bytes by 255. Received: values "
            f"from {samples.min()} to {samples.max()}"
        )
    return np.concatenate([samples.astype(np.float32), probes(image_shape)])


def probes(image_shape: ImageShape, num_images: int = 32, seed: int = 0) -> np.ndarray:
    """Images of all kinds to compare on: noise of several scales and contrasts.

    Returns:
        Float32 `(num_images, *image_shape)` in [0, 1].
    """
    generator = np.random.default_rng(seed)
    height, width, channels = image_shape
    result: Any = []
    for index in range(num_images):
        cell = 2 ** (index % 5)
        coarse = generator.uniform(
            size=(-(-height // cell), -(-width // cell), channels)
        )
        image = coarse.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
        result.append(image ** generator.uniform(0.2, 5))
    result = np.array(result, np.float32)
    result[0], result[1] = 0, 1
    return result


def _outputs(detector: LiveModel, images: np.ndarray) -> Answer:
    """What the live detector gives for all the images, on the CPU."""
    outputs = []
    size = min(_BATCH_SIZE, eager_at_once(images.shape[1:]))
    with tf.device("CPU:0"):
        for start in range(0, len(images), size):
            batch = detector.call(tf.constant(images[start : start + size]))
            outputs.append({name: np.array(value) for name, value in batch.items()})
    return {name: np.concatenate([o[name] for o in outputs]) for name in outputs[0]}


def _best(detector: LiveModel, outputs: Answer) -> np.ndarray:
    """The known class with the largest logit, `(num_images,)`."""
    return outputs["logits"][:, : detector.num_classes].argmax(axis=-1)


def _measure_rounding(
    detector: LiveModel, images: np.ndarray, live: Answer
) -> np.ndarray:
    """What the last bits of the pixels do to the live model's numbers, for each image.

    Of a sound network it is next to nothing. Far from all that it was trained on, such
    as on noise, some amplify rounding until no two batch sizes agree.
    """
    largest = np.zeros(len(images))
    for bits in (1, 3):
        moved = _outputs(detector, images * np.float32(1 - bits * 2**-23))
        for name, values in live.items():
            values = values.reshape(len(images), -1)
            difference = np.abs(moved[name].reshape(values.shape) - values)
            relative = difference / np.maximum(1, np.abs(values))
            largest = np.maximum(largest, relative.max(axis=1))
    return largest


def _live(
    detector: LiveModel,
    threshold: "AnyThreshold",
    class_names: Sequence[str],
    images: np.ndarray,
) -> Json:
    live = _outputs(detector, images)
    sound = np.all(
        [np.isfinite(v.reshape(len(v), -1)).all(1) for v in live.values()], 0
    )
    if not sound.all():
        raise ValueError(
            f"the model or its detector gives NaN or infinite numbers for "
            f"{(~sound).sum()} of {len(images)} images in [0, 1]; it has diverged in "
            "training, or overflows. Train it again before exporting"
        )
    best = _best(detector, live)
    limits = any_threshold.limits(threshold, best)
    accepted = accepts(live["ood_score"], limits)
    return {
        **live,
        "images": images,
        "rounding": _measure_rounding(detector, images, live),
        "threshold": limits.astype(np.float64),
        "accepted": accepted,
        "class_id": np.where(accepted, best, UNKNOWN),
        "label": np.where(accepted, np.array(class_names)[best], UNKNOWN_LABEL),
    }
