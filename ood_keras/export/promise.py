"""Whether an exported model accepts what its threshold was chosen to accept.

That live and exported model agree on pixels in [0, 1] is not enough: a network that was
trained and calibrated on pixels from 0 to 255 agrees there, and rejects every image. So
images that the threshold was chosen on go through the exported model, as pixels and as
PNG files, and must be accepted at about the rate that was promised.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ood_keras.calibration import ClassThresholds, any_threshold
from ood_keras.calibration.acceptance import is_too_low, least_acceptance
from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.conventions import RANGE_TOLERANCE, accepts
from ood_keras.detectors.memory import MOST_IMAGES
from ood_keras.export.parity import ParityError
from ood_keras.types import Json, LiveModel

# In a manifest, which has it only where nothing was tried, and in `parity.json`.
KEY = "promise"
ANY = "scored images"
# Of all calibration images, this share may lie out of range; of those looked at, this
# share may be lost, for the machine that scored them may have rounded otherwise.
_OUT_OF_RANGE, _LOST = 1 / 50, 1 / 20
# Eight bits a pixel may cost this share: the images were floats before.
_LOST_BY_ROUNDING = 1 / 4
# Photographs are never all as dark as this.
_TOO_DARK = 4 / 255
# If nothing says which of the scored images chose the threshold.
_LOST_OF_ANY = 1 / 2
# What hangs on less than this, relative to threshold or spread, may go either way.
_NEAR = 1e-3
# An acceptance is too low if it is lower than promised by this, and not by chance.
_TOO_LOW = 0.1


class PromiseError(ParityError, ValueError):
    """The exported model would not accept what its threshold promises to accept."""


@dataclasses.dataclass(frozen=True, eq=False)
class Promise:
    """A threshold, and known images to try it on.

    Attributes:
        threshold: The `calibration.Threshold`, or `ClassThresholds`.
        origin: Where they come from, for the report: "calibration images", "scored
            images" or "sample_images".
        images: Float32 `(num_images, height, width, channels)`.
        scores: Their `ood_score`s when the threshold was chosen, `(num_images,)`; or
            `None`, and then those of the live model are taken.
        of: How many images they stand for.
        pixel_range: `(lowest, highest)` of all these.
    """

    threshold: AnyThreshold
    origin: str
    images: np.ndarray
    scores: np.ndarray | None
    of: int
    pixel_range: tuple[float, float]

    @property
    def pixels(self) -> np.ndarray:
        """The images in 8 bits, as files hold them."""
        images = np.clip(np.nan_to_num(self.images), 0, 1)
        return np.rint(images * 255).astype(np.uint8)

    def check(
        self,
        score: Callable[[np.ndarray], np.ndarray],
        answers: Mapping[str, np.ndarray],
        classify: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> Json:
        """Compares what the exported model accepts with what was promised.

        Args:
            score: From float images to the live model's `ood_score`s.
            answers: `{"pixels": accepted, "files": accepted}`, bool arrays
                `(num_images,)`; the latter is missing where the model takes no files.
            classify: From float images to the classes that the live model predicts,
                for thresholds of classes.

        Returns:
            What was seen, for the parity report, a dict for JSON.

        Raises:
            PromiseError: too many images are rejected that ought to be accepted.
        """
        live = score(self.images)
        scores = live if self.scores is None else self.scores
        limits = self._limits(classify, self.images)
        expected = accepts(scores, limits)
        if self.scores is None and self.threshold.target_acceptance is not None:
            self._check_acceptance(expected)
        share = _LOST_OF_ANY if self.origin == ANY else _LOST
        inside = _in_range(self.images)
        # What is refused for its range has no score to be near to anything.
        lost = expected & ~answers["pixels"] & ~(inside & _near(scores, limits, scores))
        if lost.sum() > share * expected.sum():
            changed = lost & ~np.isclose(live, scores, rtol=1e-2, atol=1e-2)
            raise PromiseError(
                self._describe_broken(expected, answers["pixels"])
                + (
                    f" The model gives {changed.sum()} of them another score than "
                    "before: it was trained on, or otherwise changed, since. Fit the "
                    "detector and choose the threshold again. Nothing was exported"
                    if changed.sum() > lost.sum() / 2
                    else _advice(self.pixel_range, self.images.shape[1:])
                )
            )
        if "files" in answers:
            self._check_files(
                expected & inside, scores, limits, score, classify, answers, share
            )
        return {
            "checked": True,
            "on": self.origin,
            "images": len(expected),
            "of": self.of,
            "pixel_range": list(self.pixel_range),
            "accepted_live": int(expected.sum()),
            **{f"accepted_{way}": int(found.sum()) for way, found in answers.items()},
        }

    def _limits(self, classify, images):
        """What is accepted of each image: one number, or that of its class."""
        if isinstance(self.threshold, ClassThresholds):
            return any_threshold.limits(self.threshold, classify(images))
        return self.threshold.value

    def _check_files(self, expected, scores, limits, score, classify, answers, share):
        """Raises if image files are rejected, for the 8 bits or for anything else."""
        images = self.pixels.astype(np.float32) / 255
        rounded, rounded_limits = score(images), self._limits(classify, images)
        kept = accepts(rounded, rounded_limits)
        lost = expected & ~kept & ~_near(scores, limits, scores)
        if lost.sum() > _LOST_BY_ROUNDING * expected.sum() + 1:
            low, high = self.pixel_range
            raise PromiseError(
                self._describe_broken(expected, answers["files"], "as PNG files ")
                + " Image files have 256 levels from 0 to 1, and these images, with "
                f"pixels from {low:g} to {high:g}, lose what tells them apart. Were "
                "they divided by 255 twice? Give the network, and the detector, pixels "
                "that span [0, 1]. Nothing was exported"
            )
        lost = (
            expected
            & kept
            & ~answers["files"]
            & ~_near(rounded, rounded_limits, scores)
        )
        if lost.sum() > share * (expected & kept).sum():
            raise PromiseError(
                self._describe_broken(expected, answers["files"], "as PNG files ")
                + " Nothing was exported"
            )

    def _check_acceptance(self, expected):
        least = least_acceptance(self.threshold)
        if is_too_low(expected, least, limit=least - _TOO_LOW):
            raise PromiseError(
                f"the threshold promises to accept {least:.0%} of the known images, "
                f"and the model accepts {expected.sum()} of {len(expected)} "
                "sample_images in [0, 1]. Expected known images like those that the "
                "threshold was chosen on; if they are, it was chosen on other pixels "
                "(0 to 255, for example), or on the scores of another detector. Choose "
                "it on the detector's scores of such images. Nothing was exported"
            )

    def _describe_broken(
        self, expected: np.ndarray, found: np.ndarray, way: str = ""
    ) -> str:
        return (
            "the exported model does not keep the promise of its threshold: of "
            f"{len(expected)} {self.origin} {expected.sum()} were accepted, and {way}"
            f"{(expected & found).sum()} of these still are."
        )


def _near(
    scores: np.ndarray, limits: float | np.ndarray, all_scores: np.ndarray
) -> np.ndarray:
    finite = all_scores[np.isfinite(all_scores)]
    spread = float(finite.std()) if len(finite) else 0.0
    room = _NEAR * np.maximum(np.abs(limits), spread)
    return np.abs(scores - np.asarray(limits, np.float32)) <= room


def to_try(
    detector: LiveModel,
    threshold: AnyThreshold,
    sample_images: np.ndarray | None = None,
) -> Promise | None:
    """The images to try, or `None` if there are none.

    Those that the detector remembers as the ones that the threshold was chosen on go
    first, then the user's own, then all that the detector scored since its `fit`.

    Args:
        detector: The fitted detector, or what stands for one.
        threshold: The `calibration.Threshold`, or `ClassThresholds`.
        sample_images: The user's known images, in range, or `None`.

    Raises:
        PromiseError: the exported model would reject them, because of their pixels.
    """
    memory = getattr(detector, "memory", None)
    found = memory and memory.of_threshold(threshold)
    some = np.zeros(0) if sample_images is None else np.asarray(sample_images)
    # Whether thresholds of classes were chosen on them, scores alone do not tell.
    if found and not (len(some) and isinstance(threshold, ClassThresholds)):
        _check_range(found, allowed=_OUT_OF_RANGE)
        return _of_memory(threshold, "calibration images", found)
    if len(some):
        rows = np.linspace(0, len(some) - 1, MOST_IMAGES).astype(int)
        images = some[np.unique(rows)].astype(np.float32)
        return Promise(
            threshold=threshold,
            origin="sample_images",
            images=images,
            scores=None,
            of=len(some),
            pixel_range=(float(images.min()), float(images.max())),
        )
    found = memory and memory.of_all()
    if not found:
        return None
    _check_range(found, allowed=_LOST_OF_ANY)
    if isinstance(threshold, ClassThresholds):  # The classes are not known here.
        return _of_memory(threshold, ANY, found)
    accepted = threshold.accepts(found.image_scores)
    if threshold.target_acceptance is not None and not accepted.any():
        least: Any = least_acceptance(threshold)
        if is_too_low(accepted, least, limit=least):
            raise PromiseError(
                f"the threshold promises to accept {least:.0%} of the known images, "
                f"and accepts none of {len(accepted)} that were chosen at random from "
                f"the {found.num_images} that this detector scored. Was it chosen on "
                "the scores of another detector or model? Choose it on this detector's "
                "scores of known validation images; or, if it scored no known ones "
                "yet, give some in [0, 1] as sample_images. Nothing was exported"
            )
    return _of_memory(threshold, ANY, found)


def caveat(tried: Promise | None) -> Json:
    """What a manifest must say: nothing where known images were tried."""
    if tried is not None:
        return {}
    reason = "there were no known images to try the exported model on"
    return {KEY: {"checked": False, "reason": reason}}


def _of_memory(threshold, origin, found):
    return Promise(
        threshold=threshold,
        origin=origin,
        images=found.images,
        scores=found.image_scores,
        of=found.num_images,
        pixel_range=found.pixel_range,
    )


def _check_range(found, allowed):
    low, high = found.pixel_range
    if 0 < max(abs(low), abs(high)) <= _TOO_DARK:
        raise PromiseError(
            "the exported model would not keep the promise of its threshold for image "
            "files: the images that the detector scored, with pixels from "
            f"{low:g} to {high:g}, are darker than all files of photographs. Were they "
            "divided by 255 twice? Give the network, and the detector, pixels that "
            "span [0, 1]. Nothing was exported"
        )
    if found.num_out_of_range > allowed * found.num_images:
        raise PromiseError(
            "the exported model would not keep the promise of its threshold: it would "
            f"reject {found.num_out_of_range} of the {found.num_images} images that "
            "the detector scored, because of their pixels."
            + _advice(found.pixel_range, found.images.shape[1:])
        )


def _in_range(images: np.ndarray) -> np.ndarray:
    return np.all(
        (images >= -RANGE_TOLERANCE) & (images <= 1 + RANGE_TOLERANCE), axis=(1, 2, 3)
    )


def _advice(pixel_range: tuple[float, float], image_shape: tuple[int, ...]) -> str:
    low, high = pixel_range
    shape = ", ".join(map(str, image_shape))
    found, layer = _guess(low, high)
    if layer is None:
        return (
            f" Exported models take pixels in [0, 1]; these go from {low:g} to "
            f"{high:g}{found}. Nothing was exported"
        )
    return (
        f" Exported models take pixels in [0, 1]; these go from {low:g} to {high:g}"
        f"{found}. Wrap the network, so that it takes [0, 1]: "
        f"keras.Sequential([keras.Input(({shape})), {layer}, model]). Then fit the "
        "detector on that and choose the threshold again, on images in [0, 1]. Nothing "
        "was exported"
    )


def _guess(low: float, high: float) -> tuple[str, str | None]:
    """What a range looks like, and the layer that makes it of [0, 1], or `None`."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return ", and some are NaN or infinite: leave such images out", None
    if low >= 0:
        top = 255 if high <= 255.5 else 65535 if high <= 65535 else high
        return (
            f", as for a network that takes 0 to {top:g}",
            f"keras.layers.Rescaling({top:g})",
        )
    if low >= -1.01 and high <= 1.01:
        return (
            ", as for a network that takes -1 to 1",
            "keras.layers.Rescaling(2, offset=-1)",
        )
    if low >= -0.5 and high <= 1.5:
        return (
            ", as sharpening or bicubic resizing leaves them. Clip them, "
            "np.clip(images, 0, 1), then score and choose the threshold again",
            None,
        )
    return (
        ", as for a network that takes pixels less a mean, divided by a deviation",
        "keras.layers.Normalization(mean=..., variance=...)",
    )
