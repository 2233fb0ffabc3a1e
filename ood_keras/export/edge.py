"""What every conversion of an exported model has in common: its source, its proof."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ood_keras import batches, calibration, detectors, metrics
from ood_keras.export import plain_graph
from ood_keras.export.parity import ParityError
from ood_keras.export.servable import describe_thresholds
from ood_keras.inference import answers as answering
from ood_keras.inference import manifest
from ood_keras.inference.predictor import Predictor
from ood_keras.inference.shipped_models import locate
from ood_keras.types import Answer, Images, ImageShape, Json, Path

# What rounding may amount to in float32, relative to the value or to 1, whichever is
# larger; a float32 file may decide otherwise only within this of the threshold.
TOLERANCE = 1e-4
# Kernels for some processors round more: a few of the images may differ by this.
_FEW, _MOST = 0.05, 1e-3
# Decisions that hang on less are listed as such.
_NEAR = 1e-6
# How far probabilities may move when a network that was made to compute in half
# precision computes in float32: 32 times the distance of 1 from the next number.
_ROUNDING = {"float16": 32 * 2.0**-10, "bfloat16": 32 * 2.0**-7, "float64": TOLERANCE}
_MOST_LISTED = 100


class ConversionSource:
    """The SavedModel that is converted, and what it says about the images.

    Making one is quick; `look` runs the SavedModel on all images, and is for when the
    conversion is known to succeed.

    Args:
        path: `DIR/VERSION`, or the name of a model that comes with the package.
        target: The name of the format to convert to, "tflite" or another.
        known_images, unknown_images: Image data; `unknown_images` may be `None`.
        target_acceptance: Fraction of the known images to accept; `None` keeps the
            model's threshold as it is.
        requantises: Whether a file needs a threshold for scores of its own.

    Attributes:
        manifest: That of the model.
        answers: What the SavedModel answers, after `look`.
        dtypes: The floating-point types other than float32 that it computes in, after
            `look`.
        threshold: The `calibration.Threshold` that a float32 copy decides with.
        operating_points: Those of a float32 copy, `{name: calibration.Threshold}`.
        known, unknown: The images, float32 arrays; `unknown` may be `None`.

    Raises:
        ValueError: the detector cannot be converted, the threshold cannot be chosen
            again where that is needed or is one for each class, or the images are none.
    """

    def __init__(
        self,
        path: Path,
        target: str,
        known_images: Images,
        unknown_images: Images | None,
        target_acceptance: float | None,
        requantises: bool = False,
    ) -> None:
        path = locate(path)
        self.manifest = manifest.read(path)
        _check_detector(self.manifest["detector"], target)
        self.path = path
        self.image_shape = tuple(self.manifest["input"]["image"]["shape"][1:])
        if isinstance(answering.own_threshold(self.manifest), tuple):
            raise ValueError(
                f"{path} decides by a threshold for each class, and TFLite and ONNX "
                "files hold one for all. Choose one for a version of its own, by "
                "ood-calibrate or ood-export with another --method, and convert that"
            )
        self.threshold = calibration.Threshold.from_dict(self.manifest["threshold"])
        self.operating_points = {
            name: calibration.Threshold.from_dict(point)
            for name, point in self.manifest.get("operating_points", {}).items()
        }
        self._target_acceptance = target_acceptance
        repeats = target_acceptance is not None or _repeats(self.threshold)
        if requantises and not repeats:
            raise ValueError(
                f"the threshold of {path} was chosen by {self.threshold.method!r}, "
                "which cannot be repeated on the scores of known images alone, as a "
                "quantised file needs. Give target_acceptance=..., and it is "
                "calibrated anew, or formats=['float32'], which keeps it"
            )
        self.known = self._images("known_images", known_images)
        self.unknown = (
            None
            if unknown_images is None
            else self._images("unknown_images", unknown_images)
        )

    def look(self, dtypes: Iterable[str] = ()) -> None:
        """Asks the SavedModel about all images, and fixes the thresholds of a copy.

        Args:
            dtypes: The types other than float32 that `plain_graph.plain` found in it.

        Raises:
            ParityError: in float32 the network is another one.
            ValueError: the SavedModel calls some of the images invalid.
        """
        self.dtypes = list(dtypes)
        predictor = Predictor(self.path)
        # Everything accepted, so that the class of every image is known.
        self.answers = self.ask(
            lambda images: predictor.predict(images, threshold=np.inf)
        )
        for name, answer in self.answers.items():
            if not answer["valid"].all():
                raise ValueError(
                    f"`{name}_images` hold {(~answer['valid']).sum()} images with NaN, "
                    "infinite or out-of-range pixels; expected values in [0, 1]"
                )
        self._float32 = self.ask(self._in_float32()) if dtypes else self.answers
        self._check_same_network()
        if self._target_acceptance is not None:
            scores = self._float32["known"]["ood_score"]
            self.threshold, self.operating_points = self.recalibrate(scores)

    def _in_float32(self) -> Callable[[np.ndarray], Answer]:
        """A function from images to what the SavedModel would answer in float32."""
        model = tf.saved_model.load(str(self.path))
        image = tf.TensorSpec((None, *self.image_shape), tf.float32, name="image")

        @tf.function(input_signature=[image], autograph=False)
        def serve(image):
            limits = tf.fill(tf.shape(image)[:1], np.float32(np.inf))
            answer = model.signatures["predict_at"](image=image, threshold=limits)
            return {name: answer[name] for name in answer if name != "label"}

        float32, _ = plain_graph.plain(serve, "tflite")

        def predict(images):
            return answering.join(
                [
                    {name: value.numpy() for name, value in float32(batch).items()}
                    for batch, _ in batches.iterate(images)
                ]
            )

        return predict

    def _check_same_network(self) -> None:
        allowed = max((_ROUNDING[name] for name in self.dtypes), default=0)
        for name, answer in self._float32.items():
            moved = answer["probabilities"] - self.answers[name]["probabilities"]
            if not np.all(np.abs(moved) <= allowed):
                raise ParityError(
                    f"the network computes in {', '.join(self.dtypes)}, its copy in "
                    f"float32, and the probabilities of {name} images differ by up to "
                    f"{np.abs(moved).max():.2g}; rounding explains {allowed:.2g}. "
                    "Nothing was written. Look for numbers that overflow in the "
                    "network, or train it in float32"
                )

    def recalibrate(
        self, scores: np.ndarray
    ) -> tuple[calibration.Threshold, dict[str, calibration.Threshold]]:
        """Threshold and operating points for other `scores` of the known images.

        They are chosen alike. Operating points whose choice cannot be repeated are
        dropped, and all if another share of known images is to be accepted.
        """
        target, points = self._target_acceptance, self.operating_points
        if target is not None:
            repeats = _repeats(self.threshold)
            method = self.threshold.method if repeats else "conformal"
            return calibration.choose(scores, target, method), {}
        return _choose_again(self.threshold, scores), {
            name: _choose_again(point, scores)
            for name, point in points.items()
            if _repeats(point)
        }

    def ask(self, predict: Callable[[np.ndarray], Answer]) -> dict[str, Answer]:
        """What `predict` answers, `{"known": ..., "unknown": ...}`."""
        answers = {"known": predict(self.known)}
        if self.unknown is not None:
            answers["unknown"] = predict(self.unknown)
        return answers

    def quality(self, answers: Mapping[str, Answer]) -> dict[str, float]:
        """AUROC and FPR95 of these answers; empty without unknown images."""
        if self.unknown is None:
            return {}
        measured = metrics.evaluate_scores(
            *(answers[name]["ood_score"] for name in ("known", "unknown"))
        )
        names = ("auroc", "fpr95_known_positive", "fpr95_unknown_positive")
        return {name: measured[name] for name in names}

    def report(self) -> Json:
        """What a report says about images and SavedModel, a dict for JSON."""
        return {
            "num_known": len(self.known),
            "num_unknown": 0 if self.unknown is None else len(self.unknown),
            # Files compute in float32, whatever the network was made to compute in.
            "float32_instead_of": self.dtypes,
            "saved_model": {
                "threshold": self.threshold.value,
                **self.quality(self.answers),
            },
        }

    def manifest_of_copy(
        self,
        name: str,
        threshold: calibration.Threshold,
        operating_points: Mapping[str, calibration.Threshold],
        inputs: Json,
    ) -> Json:
        """The manifest of a converted model, before files and versions are added."""
        kept = ("class_names", "unknown_label", "detector", "metrics")
        output = self.manifest["output"]
        made_from = ("created", "versions", "manifest_sha256")
        return {
            **{key: self.manifest[key] for key in kept},
            "converted_to": name,
            "converted_from": {key: self.manifest[key] for key in made_from},
            **describe_thresholds(threshold, operating_points),
            "input": {**inputs, **self._files()},
            "output": {
                key: output[key]
                for key in output
                if key not in ("features", "logits", "heat")
            },
        }

    def _files(self) -> Json:
        """What the contract says about image files; a copy reads them alike."""
        inputs = self.manifest["input"]
        return {key: inputs[key] for key in ("image_bytes",) if key in inputs}

    def compare(
        self, answers: Mapping[str, Answer], threshold: calibration.Threshold
    ) -> Json:
        """How a converted model's answers differ from the SavedModel's.

        Args:
            answers: What `ask` returned for the final file.
            threshold: The `Threshold` in the final file.

        Returns:
            An entry of the report, a dict for JSON.

        Raises:
            ParityError: the file does not decide by its own scores and threshold.
        """
        for answer in answers.values():
            if not np.array_equal(self._decide(answer, threshold), answer["class_id"]):
                raise ParityError(
                    "the converted model does not decide by its own scores and "
                    "threshold; nothing was written. The runtime is broken"
                )
        report = {"threshold": threshold.value, **self.quality(answers)}
        for key, limit in (("before", self.threshold), ("after", threshold)):
            equal = {
                name: self._decide(self.answers[name], self.threshold)
                == self._decide(answer, limit)
                for name, answer in answers.items()
            }
            report[f"equal_decisions_{key}"] = float(
                np.concatenate(list(equal.values())).mean()
            )
        for name, answer in answers.items():
            report[f"accepted_{name}"] = float(answer["accepted"].mean())
        report["differing"] = self._differing(answers, self.answers)
        return report

    def check_float32(self, answers: Mapping[str, Answer]) -> None:
        """Raises unless a float32 copy answers as the SavedModel does, in float32.

        Raises:
            ParityError: scores differ by more than rounding, or a decision does that
                hangs on more.
        """
        rounding = TOLERANCE
        for name, answer in answers.items():
            reference = self._float32[name]
            difference = np.abs(answer["ood_score"] - reference["ood_score"])
            difference /= np.maximum(1, np.abs(reference["ood_score"]))
            # Written so that NaN is more than all.
            many = not np.mean(difference <= TOLERANCE) >= 1 - _FEW
            if many or not difference.max() <= _MOST:
                raise ParityError(
                    f"the scores of {name} images differ from the SavedModel's by up "
                    f"to {difference.max():.2g}, relative to the score or 1; allowed: "
                    f"{TOLERANCE:g}, and {_MOST:g} for a few. Nothing was written"
                )
            rounding = max(rounding, float(difference.max()))
        clear = [
            one
            for one in self._differing(answers, self._float32, most=None)
            if one["distance_to_threshold"] > rounding
            and one["distance_of_best_classes"] > rounding
        ]
        if clear:
            raise ParityError(
                f"{len(clear)} images are decided otherwise than by the SavedModel, "
                f"and not by rounding, for example {clear[0]}. Nothing was written"
            )

    def _decide(self, answer: Answer, threshold: calibration.Threshold) -> np.ndarray:
        """Class ids, or -1, for these scores under a `Threshold`."""
        names = self.manifest["class_names"]
        return answering.at_threshold(answer, threshold.value, names)["class_id"]

    def _differing(self, answers, references, most=_MOST_LISTED):
        """The images that are decided otherwise, and what their decision hangs on."""
        found = []
        for name, answer in answers.items():
            reference = references[name]
            expected = self._decide(reference, self.threshold)
            scores = reference["ood_score"]
            # One class has no second best, and nothing near it.
            best = np.sort(reference["probabilities"], axis=1)
            second = best[:, -2] if best.shape[1] > 1 else np.zeros(len(best))
            for row in np.flatnonzero(expected != answer["class_id"]):
                limit = self.threshold.value
                distance = abs(float(scores[row]) - limit) / max(1, abs(limit))
                found.append(
                    {
                        "images": name,
                        "index": int(row),
                        "distance_to_threshold": distance,
                        "distance_of_best_classes": float(best[row, -1] - second[row]),
                        "near_threshold": distance <= _NEAR,
                    }
                )
        return found[:most]

    def _images(self, name, data):
        found = [images for images, _ in batches.iterate(data) if len(images)]
        if not found:
            raise ValueError(f"`{name}` holds no image")
        found = np.concatenate(found)
        if found.shape[1:] != self.image_shape:
            raise ValueError(
                f"`{name}` must have the shape (num_images, "
                f"{', '.join(map(str, self.image_shape))}). Received: {found.shape}"
            )
        return found


def bad_images(image_shape: ImageShape) -> dict[str, np.ndarray]:
    """One image for each way in which floats can be invalid, `{name: image}`."""
    values = {"nan": np.nan, "infinite": np.inf, "minus_infinite": -np.inf}
    values |= {"negative": -1.0, "bytes_as_floats": 255.0}
    images = {}
    for name, value in values.items():
        images[name] = np.full(image_shape, 0.5, np.float32)
        images[name][0, 0, 0] = value
    return images


def check_rejects(
    predict: Callable[[np.ndarray], Answer], image_shape: ImageShape
) -> None:
    """Raises a ParityError unless `predict` rejects invalid images."""
    for name, image in bad_images(image_shape).items():
        answer = predict(image[np.newaxis])
        if answer["valid"][0] or answer["accepted"][0] or answer["class_id"][0] != -1:
            raise ParityError(
                f"the converted model does not reject an image with {name} pixels; "
                "nothing was written"
            )


def latency_ms(run: Callable[[], object], num_runs: int = 50) -> float:
    """Median milliseconds that `run()` takes, after a warm-up."""
    times = []
    for _ in range(num_runs + 5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[5:]) * 1000


def _repeats(threshold: calibration.Threshold) -> bool:
    """Whether a threshold can be chosen again on the scores of known images alone."""
    return (
        threshold.target_acceptance is not None
        and threshold.method in calibration.names(of_known_scores=True)
    )


def _choose_again(
    threshold: calibration.Threshold, scores: np.ndarray
) -> calibration.Threshold:
    target: Any = threshold.target_acceptance
    return calibration.choose(scores, target, threshold.method)


def _check_detector(description: Json, target: str) -> None:
    try:
        detector = detectors.get(description["name"], **description["config"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the detector that the manifest names cannot be made: {error}. Copy the "
            "exported model again from its source, or export it again"
        ) from error
    if target not in detector.exports:
        raise ValueError(
            f"the detector {detector.name!r} cannot be exported to {target}, because "
            "it needs operations that this format does not have (gradients of the "
            f"network, for example). It exports to: {', '.join(detector.exports)}. "
            "Choose another detector for this model, such as 'energy'"
        )
