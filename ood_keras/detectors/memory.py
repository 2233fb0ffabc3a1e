"""What a detector remembers of what it scored, so that an export can be checked.

A threshold promises something about images, and knows only their scores. The images
themselves say whether an exported model, which takes pixels in [0, 1], keeps it; the
dataset they came from knows what the classes are called. A detector keeps a few of the
images, in bounded memory. They take no part in any score, and no file holds them.
"""

import collections
import dataclasses
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ood_keras.conventions import RANGE_TOLERANCE
from ood_keras.detectors.statistics import Smallest
from ood_keras.types import ImageShape

# Of each call and of all calls together: images, and numbers in them (4 MB).
MOST_IMAGES = 64
_MOST_VALUES = 2**20
# Calls that are told apart, and scores that are kept of each.
_MOST_CALLS = 4
_MOST_SCORES = 2**16
# Scores of equal images differ by less, relative to the score.
_ROUNDING = 2.0**-20

# One for all detectors, which can then be copied; it is held for an instant.
_adding = threading.Lock()


@dataclasses.dataclass(frozen=True, eq=False)
class Remembered:
    """What is left of a call of `score`, or of many.

    Attributes:
        num_images: How many images there were.
        scores: Their `ood_score`s, in order; at equal distances if there were many.
        images: A random sample of them, float32 `(k, height, width, channels)`.
        image_scores: The `ood_score`s of these, `(k,)`.
        num_out_of_range: How many of all images an exported model refuses.
        pixel_range: `(lowest, highest)` pixel of all images.
        class_names: Those of the dataset, or `None`.
    """

    num_images: int
    scores: np.ndarray
    images: np.ndarray
    image_scores: np.ndarray
    num_out_of_range: int
    pixel_range: tuple[float, float]
    class_names: tuple[str, ...] | None = None

    def chose(self, threshold: Any) -> bool:
        """Whether these can be the images that a `calibration.Threshold` was chosen on.

        They are as many, and so is the share of them that it accepts; that of
        `ClassThresholds` is not known without the classes of the images.
        """
        if self.num_images != np.sum(threshold.num_calibration):
            return False
        target = threshold.target_acceptance
        if target is None or _is_of_classes(threshold):
            return True
        accepted = self.scores[threshold.accepts(self.scores)]
        slack = 2 / self.num_images + 2 / len(self.scores)
        # Equal scores at the threshold are accepted together, however many they are;
        # those of equal images differ by rounding, with their place in a batch.
        highest = accepted.max(initial=-np.inf)
        equal = highest - abs(highest) * _ROUNDING if np.isfinite(highest) else highest
        below = np.sum(accepted < equal) / len(self.scores)
        return len(accepted) / len(self.scores) >= target - slack and (
            below <= target + slack
        )

    def distance(self, threshold: Any) -> float:
        """How far the share that a threshold accepts is from what it aims at."""
        if threshold.target_acceptance is None or _is_of_classes(threshold):
            return 0.0
        share = threshold.accepts(self.scores).mean()
        return abs(float(share) - threshold.target_acceptance)


def _is_of_classes(threshold: Any) -> bool:
    return np.ndim(threshold.num_calibration) == 1


class Memory:
    """What a fitted detector remembers; any number of threads may add to it.

    Args:
        image_shape: `(height, width, channels)`; images of other shapes are counted
            and not kept.
    """

    def __init__(self, image_shape: ImageShape) -> None:
        self._shape = tuple(image_shape)
        values = max(1, int(np.prod(self._shape)))
        self._capacity = min(MOST_IMAGES, max(1, _MOST_VALUES // values))
        self._generator = np.random.default_rng(0)
        self._calls: collections.deque[Remembered] = collections.deque(
            maxlen=_MOST_CALLS
        )
        self._all = Smallest(self._capacity)
        self._num_images = self._num_out_of_range = 0
        self._range = (np.inf, -np.inf)
        self._class_names: list[tuple[str, ...]] = []
        # Small calls, whole: a look costs as much for one image as for many.
        self._waiting: list[tuple[np.ndarray, np.ndarray, Any]] = []
        self._num_waiting = 0

    def watch(
        self, images: Iterable[np.ndarray], class_names: tuple[str, ...] | None = None
    ) -> "Watch":
        """A `Watch` over the batches of one call of `score`."""
        return Watch(images, self._shape, self._capacity, self._generator, class_names)

    def add(self, watch: "Watch", scores: np.ndarray) -> None:
        """Remembers a call that has come to its end, with the scores that it gave."""
        if not len(scores):
            return
        small = watch.small
        if small is not None:
            with _adding:
                self._waiting.append((small, scores.copy(), watch.class_names))
                self._num_waiting += len(small)
                if self._num_waiting >= self._capacity:
                    self._look_at_waiting()
            return
        call = watch.remember(scores)
        with _adding:
            self._look_at_waiting()
            self._calls.append(call)
            self._add_to_all(call, watch.keys)
            self._add_names(call.class_names)

    def _look_at_waiting(self):
        """Remembers the calls that wait; while the lock is held."""
        waiting, self._waiting, self._num_waiting = self._waiting, [], 0
        if not waiting:
            return
        for images, scores, names in waiting[-_MOST_CALLS:]:
            self._calls.append(self._look_at(images, names).remember(scores))
        together = self._look_at(np.concatenate([call[0] for call in waiting]))
        scores = np.concatenate([call[1] for call in waiting])
        self._add_to_all(together.remember(scores), together.keys)
        for _, _, names in waiting:
            self._add_names(names)

    def _look_at(self, images, names=None):
        watch = self.watch([], names)
        watch.look_at(images)
        return watch

    def _add_to_all(self, call, keys):
        self._num_images += call.num_images
        self._num_out_of_range += call.num_out_of_range
        self._range = _join_ranges(self._range, call.pixel_range)
        if len(call.images):
            self._all.add(keys, images=call.images, scores=call.image_scores)

    def _add_names(self, names):
        if names is not None and names not in self._class_names:
            self._class_names = [*self._class_names, names][-_MOST_CALLS:]

    def of_threshold(self, threshold: Any) -> Remembered | None:
        """The call whose scores a threshold was chosen on, or `None`.

        Where several can be it, the share that it accepts decides, then the time.
        """
        with _adding:
            self._look_at_waiting()
            calls = [call for call in self._calls if call.chose(threshold)]
        return min(reversed(calls), key=lambda c: c.distance(threshold), default=None)

    def of_all(self) -> Remembered | None:
        """A sample of all images since `fit`, or `None` if there were none."""
        with _adding:
            self._look_at_waiting()
            rows = self._all.rows
            if not rows:
                return None
            scores = rows["scores"]
            return Remembered(
                num_images=self._num_images,
                scores=scores,
                images=rows["images"],
                image_scores=scores,
                num_out_of_range=self._num_out_of_range,
                pixel_range=self._range,
            )

    @property
    def class_names(self) -> list[tuple[str, ...]]:
        """The lists of class names that datasets brought, the latest last."""
        with _adding:
            self._look_at_waiting()
            return list(self._class_names)


class Watch:
    """Passes batches of images on and keeps a few of them; iterate over it once.

    Args:
        images: An iterable of float32 arrays `(batch, height, width, channels)`.
        image_shape: That of the images to keep.
        capacity: How many to keep.
        generator: A `numpy.random.Generator` that chooses them.
        class_names: Those of the dataset, or `None`.
    """

    def __init__(
        self,
        images: Iterable[np.ndarray],
        image_shape: tuple[int, ...],
        capacity: int,
        generator: np.random.Generator,
        class_names: tuple[str, ...] | None,
    ) -> None:
        self._images, self._shape = images, image_shape
        self._capacity, self._generator = capacity, generator
        self._kept: Smallest | None = None
        self._count = self._num_out_of_range = 0
        self._range = (np.inf, -np.inf)
        # Copies of small batches, which nobody has looked at yet.
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0
        self.class_names = class_names

    def __iter__(self) -> Iterator[np.ndarray]:
        for images in self._images:
            if len(images):
                self._take(images)
            yield images

    @property
    def small(self) -> np.ndarray | None:
        """All images, if they are so few that nobody has looked at them; or `None`."""
        if self._count or not self._waiting:
            return None
        if len(self._waiting) == 1:
            return self._waiting[0]
        return np.concatenate(self._waiting)

    @property
    def keys(self) -> np.ndarray:
        return self._sample.keys

    def remember(self, scores: np.ndarray) -> Remembered:
        """The `Remembered` of this call, whose scores were these."""
        self._look_at_waiting()
        rows = self._sample.rows
        images = rows.get("images", np.zeros((0, *self._shape), np.float32))
        step = -(-len(scores) // _MOST_SCORES)
        return Remembered(
            num_images=self._count,
            scores=np.array(scores[::step]),
            images=images,
            image_scores=scores[rows.get("index", np.zeros(0, np.int64))],
            num_out_of_range=self._num_out_of_range,
            pixel_range=self._range,
            class_names=self.class_names,
        )

    def look_at(self, images: np.ndarray) -> None:
        """Counts a batch and keeps some of its images."""
        lowest, highest = images.min(), images.max()
        if not (lowest >= -RANGE_TOLERANCE and highest <= 1 + RANGE_TOLERANCE):
            pixels = images.reshape(len(images), -1)
            lows, highs = pixels.min(axis=1), pixels.max(axis=1)
            inside = (lows >= -RANGE_TOLERANCE) & (highs <= 1 + RANGE_TOLERANCE)
            self._num_out_of_range += len(images) - int(np.count_nonzero(inside))
            # NaN says nothing about the range.
            lowest, highest = np.fmin.reduce(lows), np.fmax.reduce(highs)
        self._range = _join_ranges(self._range, (lowest, highest))
        if images.shape[1:] == self._shape:
            index = np.arange(self._count, self._count + len(images))
            keys = self._generator.random(len(images))
            self._sample.add(keys, images=images, index=index)
        self._count += len(images)

    @property
    def _sample(self) -> Smallest:
        if self._kept is None:
            self._kept = Smallest(self._capacity)
        return self._kept

    def _take(self, images):
        """Looks at a batch, or lets it wait, since a look costs as much for one image.

        What waits is copied: whoever gave it may write into it.
        """
        if len(images) < self._capacity and images.shape[1:] == self._shape:
            self._waiting.append(images.copy())
            self._num_waiting += len(images)
            if self._num_waiting >= self._capacity:
                self._look_at_waiting()
        else:
            self._look_at_waiting()
            self.look_at(images)

    def _look_at_waiting(self):
        if self._waiting:
            images = np.concatenate(self._waiting)
            self._waiting, self._num_waiting = [], 0
            self.look_at(images)


def class_names_of(data: Any) -> tuple[str, ...] | None:
    """The names of the classes of a dataset, a tuple of text, or `None`.

    Datasets of `pipelines` and those of `keras.utils.image_dataset_from_directory`
    have an attribute `class_names`; what is made of them with `map` or `batch` has not.
    """
    names = getattr(data, "class_names", None)
    if not isinstance(names, (list, tuple)) or not names:
        return None
    return tuple(names) if all(isinstance(name, str) for name in names) else None


def _join_ranges(left: tuple[Any, Any], right: tuple[Any, Any]) -> tuple[float, float]:
    return float(np.fmin(left[0], right[0])), float(np.fmax(left[1], right[1]))
