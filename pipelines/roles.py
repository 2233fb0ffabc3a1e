"""Guards against leaks: nothing may be trained on, tuned on and reported on at once."""

import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from ood_keras.conventions import UNKNOWN
from ood_keras.pipelines import contents
from ood_keras.pipelines.split import ROLES, Split

# Real data has a few copies of its own, such as blank images; more are a leak.
_MOST_SHARED = 0.01


def check_roles(
    known: Mapping[str, Split], unknown: Mapping[str, Iterable[Split]]
) -> None:
    """Raises if the splits of an experiment leak into each other.

    Call it with everything an experiment touches. Fit on train; select, tune and
    calibrate on validation; report on test.

    Args:
        known: `{"train": split, "validation": split, "test": split}`, or a part of it.
        unknown: `{"train": [splits], ...}` in the same way.

    Raises:
        ValueError: a split is used in two roles or twice in one, or in another role
            than its own; the same images come under two names; more than 1 % of a
            split's images, and more than one, are in a split for another use, as they
            are, negative or transposed; a known
            image has no label; a class is both known and unknown; or the images of a
            known class show nothing, see `contents.check`.

    Warns:
        DataWarning: images seem to show nothing, or have several labels.

    Example:

    ```python
    pipelines.check_roles(
        known={"train": known.train, "test": known.test},
        unknown={"train": [letters.train], "test": [letters.test, kmnist.test]},
    )
    ```
    """
    known_lists = {role: [split] for role, split in known.items()}
    uses = [
        (f"{kind} {role}", role, split)
        for kind, roles in (("known", known_lists), ("unknown", unknown))
        for role, splits in roles.items()
        for split in splits
    ]
    first_uses: dict[str, tuple[str, Split]] = {}
    for use, role, split in uses:
        if role not in ROLES:
            raise ValueError(
                f"`{role}` is no role; the roles are {', '.join(ROLES)}. Received: "
                f"{use} = {split}"
            )
        if split.pixel_fingerprint in first_uses:
            other_use, other = first_uses[split.pixel_fingerprint]
            raise ValueError(
                f"the same images are used twice: {other} for {other_use} and {split} "
                f"for {use}. Results on images that were trained or tuned on are "
                "worth nothing; use another split for one of them"
            )
        first_uses[split.pixel_fingerprint] = (use, split)
        if split.role != role:
            raise ValueError(
                f"{split} is a {split.role} split, but is used for {use}. Use its "
                f"source's `.{role}`"
            )
    for splits in known_lists.values():
        for split in splits:
            check_known(split)
    for others in unknown.values():
        for split in others:
            contents.check(split, known=False)
    check_classes(
        [split for splits in known_lists.values() for split in splits],
        [split for splits in unknown.values() for split in splits],
    )
    _check_shared_images(uses)


def check_known(split: Split) -> None:
    """Raises if an image of a split that is to be known is labelled unknown.

    No labels at all, as of a folder without sub-folders, mean unknown too. It also
    raises, or warns, if the images show nothing, see `contents.check`.
    """
    num_unknown = np.count_nonzero(split.labels == UNKNOWN)
    if num_unknown:
        raise ValueError(
            f"{split}: known images need a class, but {num_unknown} of {len(split)} "
            f"images are labelled {UNKNOWN}, unknown, or have no label. Put known "
            "images into one folder per class, or give each a label from 0 on"
        )
    contents.check(split, known=True)


def check_classes(known: Iterable[Split], unknown: Iterable[Split]) -> None:
    """Raises if a class of the known splits is also one of the unknown splits."""
    for known_split in known:
        names = dict(
            zip(known_split.class_identities, known_split.class_names, strict=True)
        )
        for split in unknown:
            both = [
                names[identity]
                for identity in split.class_identities
                if identity in names
            ]
            if both:
                shown = ", ".join(both[:5]) + (", ..." if len(both) > 5 else "")
                raise ValueError(
                    f"a class cannot be both known and unknown: {known_split} and "
                    f"{split} both have {shown}. Choose another unknown source, or "
                    "only the other classes of this one, as in `mnist[5-9]`"
                )


def _check_shared_images(uses: list[tuple[str, str, Split]]) -> None:
    """Raises if splits for different uses share more than a few images.

    An image is the same in the general forms, negative and transposed. One that was
    resized by another filter cannot be told by its pixels.

    Args:
        uses: Triples `(use, role, split)`, use being `"known train"`.
    """
    hashes = [
        np.unique(contents.hashes_in_any_form(split.images)) for _, _, split in uses
    ]
    pairs = itertools.combinations(zip(uses, hashes, strict=True), 2)
    for ((use, _, split), some), ((other_use, _, other), others) in pairs:
        if use == other_use:
            continue
        shared = len(np.intersect1d(some, others, assume_unique=True))
        most = max(1, int(_MOST_SHARED * min(len(some), len(others))))
        if shared > most:
            raise ValueError(
                f"{shared} images are in both {split} for {use} and {other} for "
                f"{other_use} (the negative of an image and its transpose count as the "
                f"image); at most {most} may be. An image has one use only: remove the "
                "copies from one of the two, or use another source"
            )
