"""What the page of `ood-demo` asks a model, without the page."""

import base64
import binascii
import dataclasses
import struct

import numpy as np

from ood_keras import export as exporting
from ood_keras import image_files, transcoding
from ood_keras.calibration import Threshold
from ood_keras.inference import ground, heat_map, pillow_decoder
from ood_keras.inference.nearest_known import NearestKnown
from ood_keras.pipelines import drawing
from ood_keras.types import Path
from ood_keras.workflows.explanation import find_heat

DEFAULT_POINT = "default"
SHEET_SIDE = 280
# That of a sheet of noise, unpacked.
MAX_DRAWING_BYTES = 4 * SHEET_SIDE**2 + 100_000
# Numbers of an image that is run two hundred times to explain its rejection.
_MOST_EXPLAINED = 64 * 64 * 3


class RefusedError(ValueError):
    """Something was sent that the page never sends; the text says what it may be."""


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What a model says about one image.

    Args:
        image: What the model saw, float32 `(height, width, channels)` in [0, 1];
            `None` if it is not `valid`.
        valid: Whether it was an image at all.
        accepted: Whether `ood_score <= threshold`.
        label: The most likely known class, also of a rejected image.
        probabilities: Over the known classes, `(N,)`.
        ood_score: Higher means more likely unknown.
        nearest: Index of the nearest known example, or `None`.
        similarity: Cosine of the features of both, at most 1; `None` without example.
        hint: What may be wrong with a rejected file, a sentence, or `None`.
        strange: Of a rejected image, what in it is strange, in red over it, float32
            `(height, width, 3)`; `None` for large images, of which that takes long.
        reason: Why a file is not read, words that go on where its name ends; `None`
            where it is, or the model alone refuses it.
    """

    image: np.ndarray | None
    valid: bool
    accepted: bool
    label: str
    probabilities: np.ndarray
    ood_score: float
    nearest: int | None = None
    similarity: float | None = None
    hint: str | None = None
    strange: np.ndarray | None = None
    reason: str | None = None


class Demo:
    """An exported model that answers about drawings and files, one at a time.

    Args:
        model: What `export.load` takes.

    Attributes:
        model: The `export.Predictor`.
        points: The thresholds it offers, `{name: calibration.Threshold}`; its own goes
            by `DEFAULT_POINT`.
        examples: Its `export.KnownExamples`, or `None`.
        dark_ink: Whether its known images are dark on bright.

    Raises:
        ValueError: the model is no SavedModel, or no picture shows what it takes.
    """

    def __init__(self, model: Path) -> None:
        self.model = exporting.load(model)
        if not isinstance(self.model, exporting.Predictor):
            raise ValueError(
                f"the page needs the features of a SavedModel. Received: {model}; give "
                "the folder DIR/VERSION that ood-export wrote"
            )
        channels = self.model.image_shape[-1]
        if channels not in (1, 3):
            raise ValueError(
                "the page shows images of 1 or 3 channels. This model takes images of "
                f"{channels}"
            )
        manifest = self.model.manifest
        if isinstance(self.model.threshold, tuple):
            raise ValueError(
                f"the page shows one threshold, and {model} has one for each class. "
                "Ask it with ood-predict, or give a version with one threshold, as "
                "ood-calibrate with another --method writes it"
            )
        points = dict(manifest.get("operating_points", {}))
        if DEFAULT_POINT in points:  # Not to be taken for the model's own threshold.
            points[f"operating point {DEFAULT_POINT}"] = points.pop(DEFAULT_POINT)
        self.points = {
            name: Threshold.from_dict(fields)
            for name, fields in {
                DEFAULT_POINT: manifest["threshold"],
                **points,
            }.items()
        }
        self.examples = self.model.known_examples
        self.dark_ink = False
        self._near = None
        if self.examples is not None and len(self.examples.images):
            known = self.examples.images / np.float32(255)
            read = self.model.features
            self._near = NearestKnown(
                lambda images: read(images)["features"], self.examples.images
            )
            edge = np.ones(known.shape[1:3], bool)
            edge[1:-1, 1:-1] = False
            self.dark_ink = bool(np.median(known[:, edge]) > 0.5)
        # Each way into the model takes seconds the first time.
        self.file(b"")
        self.model.predict(np.zeros((1, *self.model.image_shape)), threshold=0.0)

    def drawing(
        self, content: bytes | str, point: str = DEFAULT_POINT
    ) -> Answer | None:
        """Answers about a drawing, brought into the form of handwritten digits.

        Args:
            content: A PNG file of 280 x 280 pixels, `bytes`, or `str` as base64: dark
                ink on bright paper.
            point: Name of an operating point.

        Returns:
            An `Answer`, or `None` for an empty sheet.

        Raises:
            RefusedError: it is anything else, which is found out before it is unpacked.
        """
        paper = _paper(content)
        image = drawing.center(
            1 - paper / np.float32(255), self.model.image_shape, dark_ink=self.dark_ink
        )
        if image is None:
            return None
        limit = self.points[point].value
        return self._answer(image, self.model.predict(image[None], threshold=limit))

    def file(self, content: bytes, point: str = DEFAULT_POINT) -> Answer:
        """Answers about an image file, which goes to the model as it is.

        Args:
            content: The file, `bytes`, of any format that can be read here, see
                `transcoding`; not `valid` if it is none.
            point: Name of an operating point.

        Returns:
            An `Answer`.
        """
        limit = self.points[point].value
        reason = None
        try:
            content = transcoding.as_read(content, self.model.exif_orientation)
        except image_files.Refused as refused:  # The model refuses it too.
            reason = str(refused)
        answers = self.model.predict_bytes([content], threshold=limit)
        pixels = pillow_decoder.decode(
            content,
            self.model.image_shape,
            self.model.background,
            self.model.exif_orientation,
        )
        image = None if pixels is None else pixels / np.float32(255)
        answer = dataclasses.replace(self._answer(image, answers), reason=reason)
        if answer.accepted or pixels is None or self.examples is None:
            return answer
        hint = ground.describe_negative(self.examples.images, pixels[None])
        return dataclasses.replace(answer, hint=hint)

    def _answer(self, image, answers):
        probabilities = answers["probabilities"][0]
        answer = Answer(
            image=image,
            valid=bool(answers["valid"][0]),
            accepted=bool(answers["accepted"][0]),
            label=self.model.class_names[int(probabilities.argmax())],
            probabilities=probabilities,
            ood_score=float(answers["ood_score"][0]),
        )
        if image is not None and answer.valid and not answer.accepted:
            answer = dataclasses.replace(answer, strange=self._explain(image))
        if image is None or self._near is None:
            return answer
        nearest, similarity = self._near.find(image)
        return dataclasses.replace(answer, nearest=nearest, similarity=similarity)

    def _explain(self, image):
        """The image with what is strange in red, or `None`."""
        if image.size > _MOST_EXPLAINED:
            return None
        heat = find_heat(
            lambda images: self.model.predict(images, threshold=0.0)["ood_score"],
            image,
        )
        return None if heat is None else heat_map.overlay(image, heat)


def _paper(content: bytes | str) -> np.ndarray:
    """The grey values of a drawing, float32 `(280, 280)`."""
    if isinstance(content, str):
        content = _from_base64(content)
    if not isinstance(content, bytes):
        raise _refusal(f"a value of type {type(content).__name__}")
    if len(content) > MAX_DRAWING_BYTES:
        raise _refusal(f"{len(content):,} bytes")
    # Before anything of it is unpacked.
    if not content.startswith(image_files.PNG) or content[12:16] != b"IHDR":
        raise _refusal("another kind of file")
    if len(content) < 24:
        raise _refusal("a file that is cut off")
    width, height = struct.unpack(">II", content[16:24])
    if (width, height) != (SHEET_SIDE, SHEET_SIDE):
        raise _refusal(f"{width} x {height} pixels")
    pixels = pillow_decoder.decode(content, (SHEET_SIDE, SHEET_SIDE, 1))
    if pixels is None:
        raise _refusal("a damaged file")
    return pixels[..., 0].astype(np.float32)


def _from_base64(text: str) -> bytes:
    if len(text) > 4 * MAX_DRAWING_BYTES // 3 + 4:
        raise _refusal(f"a text of {len(text):,} characters")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _refusal("a text that is not base64") from None


def _refusal(received: str) -> RefusedError:
    return RefusedError(
        f"A drawing is a PNG file of {SHEET_SIDE} x {SHEET_SIDE} pixels and of at most "
        f"{MAX_DRAWING_BYTES:,} bytes. Received: {received}"
    )
