"""Whether an exported model accepts the pictures that its threshold was chosen on.

The export itself tries some of them. Here all go through it, as the files that they
are: what decodes, resizes and scales them is then what will do so when it is served.
"""

import io
import pathlib
from collections.abc import Iterator

import numpy as np

from ood_keras import pipelines
from ood_keras.calibration import acceptance
from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.export import promise
from ood_keras.inference.predictor import Predictor
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
    for start in range(0, len(rows), _BATCH):
        contents, number = [], 0
        for row in rows[start : start + _BATCH]:
            file = _find(split, row)
            number += file is not None
            contents.append(_png(split.images[row]) if file is None else file)
        yield contents, number


def _find(split: pipelines.Split, row: int) -> bytes | None:
    """The file that a picture of a folder was read from, if it can be served."""
    prefix, _, folder = split.source.partition(":")
    if prefix != "folder" or not split.files:
        return None
    root = pathlib.Path(folder.rpartition("[")[0] or folder).expanduser()
    name = split.files[row]
    places = [root / name, *(path / name for path in sorted(root.iterdir()))]
    there = [path for path in places if path.is_file()]
    # The same name in two splits would leave it open which one it was.
    if len(there) != 1 or there[0].suffix.lower() not in (".png", ".jpg", ".jpeg"):
        return None
    return there[0].read_bytes()


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
        buffer, "PNG"
    )
    return buffer.getvalue()
