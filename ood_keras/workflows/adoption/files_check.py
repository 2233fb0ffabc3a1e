"""Whether an exported model accepts the pictures that its threshold was chosen on.

The export itself tries some of them. Here all go through it, as the files that they
are: what decodes, resizes and scales them is then what will do so when it is served.
"""

import collections
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from ood_keras import pipelines, transcoding
from ood_keras.calibration import acceptance
from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.export import promise
from ood_keras.inference.predictor import Predictor
from ood_keras.pipelines.sources import listed
from ood_keras.pipelines.sources.forms import GENERAL
from ood_keras.pipelines.sources.spec import parse
from ood_keras.types import Json

_BATCH = 64
MOST_PICTURES = 2000
# Decoding and resizing may move a picture across the threshold; this share of them.
_LOST = 0.05
_CHANCE = 1e-3


def check(
    predictor: Predictor,
    split: pipelines.Split,
    threshold: AnyThreshold,
    expected: np.ndarray,
) -> Json:
    """Gives the calibration pictures to an exported model, as files.

    Args:
        predictor: The exported model.
        split: The pictures that the threshold was chosen on.
        threshold: That threshold.
        expected: Whether each was accepted when it was chosen, bool `(len(split),)`.

    Returns:
        What was seen, a dict for JSON: numbers of pictures, of those that were files on
        disk, and the shares accepted when the threshold was chosen, and as files.

    Raises:
        PromiseError: they are not accepted at about the promised rate.
    """
    rows = np.linspace(0, len(split) - 1, min(len(split), MOST_PICTURES)).astype(int)
    accepted, originals, unreadable = [], 0, 0
    for contents, number in _batches(split, rows):
        answer = predictor.predict_bytes(contents)
        accepted.append(answer["accepted"])
        unreadable += int((~answer["valid"]).sum())
        originals += number
    found, expected = np.concatenate(accepted), expected[rows]
    least = acceptance.least_acceptance(threshold)
    seen = {
        "pictures": len(rows),
        "files_on_disk": originals,
        "unreadable": unreadable,
        "promised": least,
        "accepted_when_chosen": float(expected.mean()),
        "accepted_as_files": float(found.mean()),
        "decided_alike": float((found == expected).mean()),
    }
    floor = expected.mean() if least is None else min(least, expected.mean())
    if acceptance.is_too_low(found, floor, limit=floor - _LOST):
        raise promise.PromiseError(
            f"of {len(rows)} known pictures that the threshold was chosen on, "
            f"{expected.mean():.1%} were accepted then, and as files, through the "
            f"exported model, {found.mean():.1%} are"
            + (f"; {unreadable} of the files it cannot read" if unreadable else "")
            + ". So the promise would not hold for files. Convert the pictures to PNG "
            "or JPEG of the size that the network takes, all in the same way, and "
            "adopt the network on these. The exported model was removed"
        )
    return seen


def _batches(split, rows) -> Iterator[tuple[list[bytes], int]]:
    there = _list_files(split)
    for start in range(0, len(rows), _BATCH):
        contents, number = [], 0
        for row in rows[start : start + _BATCH]:
            file = _read(there.get(split.files[row])) if there else None
            number += file is not None
            contents.append(_png(split.images[row]) if file is None else file)
        yield contents, number


def _list_files(split: pipelines.Split) -> dict[str, Any]:
    """The files that pictures were read from, by what a split calls them."""
    if not listed.is_listed(split.source) or not split.files:
        return {}
    # In another form, pictures are no longer what their files hold.
    if set(parse(split.source).forms) & set(GENERAL):
        return {}
    found = listed.find_pictures(split.source)
    files = [file for some in found.pictures.values() for file, _ in some]
    count = collections.Counter(map(found.short_name, files))
    # The same name in two splits would leave it open which one it was.
    return {
        name: file
        for file, name in zip(files, map(found.short_name, files), strict=True)
        if count[name] == 1
    }


def _read(file: Any) -> bytes | None:
    """The content of a file, if it can be served."""
    if file is None:
        return None
    try:
        content = file.read_bytes()
    except (OSError, ValueError):
        return None
    return content if transcoding.is_direct(content) else None


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
        buffer, "PNG"
    )
    return buffer.getvalue()
