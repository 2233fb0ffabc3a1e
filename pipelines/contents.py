"""What images themselves tell of a mistake: all of one colour, all equal, mislabelled.

A drawing that was lost on the way, a camera behind its cap, one picture that was
written a thousand times: a network learns such a class at once, and nothing later
looks wrong.
"""

from collections.abc import Iterator

import numpy as np

from ood_keras.conventions import UNKNOWN
from ood_keras.pipelines import stored_images
from ood_keras.pipelines.sources import base
from ood_keras.pipelines.split import Split
from ood_keras.types import PixelArray

# Pictures whose pixels differ by no more levels, of 255, show nothing to the eye.
NEARLY = 8
# So few pictures may be equal by chance.
_MIN_IMAGES = 4
_REFUSED_SHARE, _DOUBTED_SHARE = 0.9, 0.5
_NUM_SHOWN = 5


def check(split: Split, *, known: bool) -> None:
    """Raises or warns if the images of a split, or of a class, show nothing.

    Args:
        split: The `Split`.
        known: Whether its images are known ones. Of unknown ones nothing is refused:
            blank images are a fair test.

    Raises:
        ValueError: of the known images, or those of a class of them, nine in ten are of
            one colour each, or are the same picture.

    Warns:
        DataWarning: more than half are, or nearly; or the same picture has several
            labels.
    """
    if not len(split):
        return
    spread = measure_spread(split.images)
    hashes = image_hashes(split.images)
    refused: list[str] = []
    doubted: list[str] = []
    for name, rows in _groups(split):
        finding, share = _finding(split.images, rows, spread, hashes)
        if finding is None:
            continue
        certain = is_refused(share * len(rows), len(rows))
        (refused if known and certain else doubted).append(f"{name}: {finding}")
    if refused:
        raise ValueError(
            f"{split}: {_show(refused)}. A class that is one picture teaches nothing. "
            "If the files look different in a viewer, what they show may lie in their "
            "transparency, or be lost in converting them; else remove them or fetch "
            "them again"
        )
    if doubted:
        base.warn(
            f"{split}: {_show(doubted)}. If they look different in a viewer, what "
            "they show was lost on the way; look at some of them"
        )
    if known:
        _warn_of_copies(split, hashes)


def is_refused(num_plain: float, num_images: int) -> bool:
    """Whether a class is refused of which so many images are plain, or equal."""
    return num_images >= _MIN_IMAGES and num_plain >= _REFUSED_SHARE * num_images


def copies_across_classes(hashes: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Returns the images that are there under several labels, equal pixel by pixel.

    Args:
        hashes: What `image_hashes` returns of the images.
        labels: Integers `(num_images,)`; -1, unknown, is no class of its own.

    Returns:
        A list of arrays of rows, one for each such image.
    """
    rows = np.flatnonzero(labels != UNKNOWN)
    order = rows[np.argsort(hashes[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(hashes[order])) + 1
    groups = np.split(order, starts)
    return [group for group in groups if len(np.unique(labels[group])) > 1]


def image_hashes(images: PixelArray) -> np.ndarray:
    """Returns a 64-bit hash of each image's pixels.

    A sum of the bytes, each times a random number, modulo 2**64: two different images
    have the same hash with a probability below 1e-16.
    """
    return _sum_pixels(images, _draw_weights(images.shape[1:]))


def hashes_in_any_form(images: PixelArray) -> np.ndarray:
    """Returns a hash of each image that its negative and its transpose share.

    The least of the four `image_hashes`. Since these are sums, no image is changed: the
    negative's is the hash of white minus the image's, and the transposed image's takes
    the random numbers in another order.

    Args:
        images: uint8 `(num_images, height, width, channels)`.
    """
    _, height, width, channels = images.shape
    weights = _draw_weights((height, width, channels))
    turned = _draw_weights((width, height, channels))
    turned = turned.reshape(width, height, channels).swapaxes(0, 1).ravel()
    hashes = []
    for each in (weights, turned):
        found = _sum_pixels(images, each)
        # As an array, whose sums and products wrap around without a warning.
        white = each.sum(keepdims=True) * np.uint64(255)
        hashes += [found, white - found]
    return np.min(hashes, axis=0)


def _draw_weights(image_shape: tuple[int, ...]) -> np.ndarray:
    # Others for another shape: an image of it is no copy, be its bytes the same.
    random = np.random.default_rng(image_shape)
    return random.integers(2**64, size=int(np.prod(image_shape)), dtype=np.uint64)


def _sum_pixels(images: PixelArray, weights: np.ndarray) -> np.ndarray:
    parts = [
        some.reshape(len(some), -1) @ weights for _, some in stored_images.walk(images)
    ]
    return np.concatenate(parts) if parts else np.array([], np.uint64)


def _groups(split: Split) -> Iterator[tuple[str, np.ndarray]]:
    """Yields a name and the rows of each class, and of all images together."""
    labels = np.unique(split.labels)
    for label in labels:
        unknown = label == UNKNOWN
        name = "unknown" if unknown else f"class {split.class_names[label]}"
        yield name, np.flatnonzero(split.labels == label)
    if len(labels) > 1:
        yield "all images", np.arange(len(split))


def measure_spread(images: PixelArray) -> np.ndarray:
    """Returns how many levels the pixels of each image span, in its liveliest channel.

    Args:
        images: uint8 `(num_images, height, width, channels)`.

    Returns:
        uint8 `(num_images,)`; 0 is one colour.
    """
    spreads = []
    for _, some in stored_images.walk(images):
        # Channels first: the rest is then reduced along one run of memory.
        pixels = np.moveaxis(some, 3, 1)
        pixels = np.ascontiguousarray(pixels).reshape(*pixels.shape[:2], -1)
        spreads.append((pixels.max(2) - pixels.min(2)).max(1))
    return np.concatenate(spreads)


def _finding(
    images: PixelArray, rows: np.ndarray, spread: np.ndarray, hashes: np.ndarray
) -> tuple[str | None, float]:
    """Returns what is wrong with some images, and of which share, or `(None, 0)`.

    Where it is only nearly so, the share is that of doubt.
    """
    count = len(rows)
    if count < 2:
        return None, 0.0
    plain = np.count_nonzero(spread[rows] == 0)
    if plain > _DOUBTED_SHARE * count:
        return f"{plain} of {count} images are of one colour each", plain / count
    same = np.unique(hashes[rows], return_counts=True)[1].max()
    if same > _DOUBTED_SHARE * count:
        return f"{same} of {count} images are the same picture", same / count
    nearly = np.count_nonzero(spread[rows] <= NEARLY)
    if nearly > _DOUBTED_SHARE * count:
        finding = f"{nearly} of {count} images are of nearly one colour each"
        return finding, _DOUBTED_SHARE
    # Most classes end here, after two images.
    if all(
        _are_nearly_one(stored_images.choose(images, some)) for some in (rows[:2], rows)
    ):
        return f"all {count} images are nearly the same picture", _DOUBTED_SHARE
    return None, 0.0


def _are_nearly_one(images: PixelArray) -> bool:
    low = high = images[0]
    for _, some in stored_images.walk(images):
        low, high = np.minimum(low, some.min(0)), np.maximum(high, some.max(0))
    return bool((high - low <= NEARLY).all())


def _warn_of_copies(split: Split, hashes: np.ndarray) -> None:
    groups = copies_across_classes(hashes, split.labels)
    if not groups:
        return
    if split.files:
        texts = [" = ".join(split.files[row] for row in rows[:5]) for rows in groups]
    else:
        names = {tuple(np.unique(split.labels[rows])) for rows in groups}
        texts = [
            " and ".join(split.class_names[label] for label in labels)
            for labels in sorted(names)
        ]
    base.warn(
        f"{split}: {len(groups)} images are there under several labels, equal pixel by "
        f"pixel: {_show(texts)}. One label of each is wrong; keep each image in one "
        "class"
    )


def _show(texts: list[str]) -> str:
    more = len(texts) - _NUM_SHOWN
    return "; ".join(texts[:_NUM_SHOWN]) + (f"; and {more} more" if more > 0 else "")
