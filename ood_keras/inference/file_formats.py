"""The kinds of file that an exported model is converted to: a record for each."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """A kind of file that an exported model is converted to, and who knows it.

    Attributes:
        name: The extension of the file; also the function of `ood_keras.export` that
            writes and proves it, its folder, what `Detector.exports` calls it, and the
            extra that brings `packages`.
        predictor: The class of `ood_keras.inference` that reads it, an `EdgePredictor`.
        packages: What the function needs, as Python imports it.
        roundings: Its files in several precisions, by name, the exact one first: the
            function takes some as `formats` and makes a folder for each. Empty if there
            is one file.
    """

    name: str
    predictor: str
    packages: tuple[str, ...]
    roundings: tuple[str, ...] = ()

    @property
    def choices(self) -> tuple[str, ...]:
        """What users choose by: the roundings, or the name."""
        return self.roundings or (self.name,)

    @property
    def file(self) -> str:
        """The usual name of the file."""
        return f"model.{self.name}"

    def locate(self, choice: str) -> str:
        """The path of the file of one of `choices`, where all formats are written."""
        folder = f"{self.name}/{choice}" if self.roundings else self.name
        return f"{folder}/{self.file}"


TFLITE = FileFormat(
    name="tflite",
    predictor="TFLitePredictor",
    packages=("ai_edge_litert",),
    roundings=("float32", "float16", "dynamic_range", "int8"),
)
ONNX = FileFormat(
    name="onnx",
    predictor="ONNXPredictor",
    packages=("tf2onnx", "onnx", "onnxruntime"),
)

FILE_FORMATS = (TFLITE, ONNX)

# Of all of them.
CHOICES = tuple(choice for each in FILE_FORMATS for choice in each.choices)
