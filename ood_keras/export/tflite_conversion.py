"""TFLite files from an exported model."""

import contextlib
import pathlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ood_keras import files
from ood_keras.export import edge, plain_graph
from ood_keras.export.flatbuffer import Flatbuffer
from ood_keras.inference import manifest, tflite_predictor
from ood_keras.types import Images, Path

FORMATS = tflite_predictor.FORMATS
# Known images that show the int8 file which values occur in the network.
_MOST_REPRESENTATIVE = 500


def tflite(
    saved_model_path: Path,
    output_dir: Path,
    *,
    known_images: Images,
    unknown_images: Images | None = None,
    target_acceptance: float | None = None,
    formats: str | Iterable[str] = FORMATS,
) -> pathlib.Path:
    """Converts an exported model to TFLite files that decide in the same way.

    Each file takes one image at a time and holds everything: checks of the image,
    network, detector, threshold and labels, in builtin operators only. `float32` is the
    SavedModel in another form. `float16` has half the size: the network's weights are
    rounded. `dynamic_range` has a quarter: weights in 8 bits. `int8` computes the
    network in 8 bits too, and takes uint8 images. The last layer of an int8 network,
    the detector and the decision are always computed in float32.

    Rounding moves the scores, so the threshold of each quantised file is calibrated
    anew, on its own scores of `known_images`, by the method of the SavedModel's
    threshold. So are its operating points. The float32 file keeps the SavedModel's.

    What is float32 in these files is so also where the network computes in half
    precision. Operators that TFLite lacks are written in others, where that is
    possible: resizing with any kernel, HSV, erf.

    Args:
        saved_model_path: `DIR/VERSION`, as `saved_model` wrote it, or the name of a
            model that comes with the package.
        output_dir: A new folder. It receives `FORMAT/model.tflite` and
            `FORMAT/manifest.json` for each format, and `parity.json`.
        known_images: Image data, floats in [0, 1], labels are ignored: the known
            validation images that the SavedModel's threshold was chosen on. They show
            the int8 file which values occur, and calibrate.
        unknown_images: Image data: validation images that are unknown, for the AUROC
            and FPR95 in the report; `None` leaves them out.
        target_acceptance: Fraction of known images to accept; `None` takes the
            SavedModel's. If given, the float32 file is calibrated too, and decisions
            are compared with the SavedModel at that threshold.
        formats: Which of `float32`, `float16`, `dynamic_range` and `int8` to write.

    Returns:
        `output_dir`, a `pathlib.Path`. In its `parity.json`: for each format `bytes`,
        `auroc` and `fpr95_...` beside those of the SavedModel, the share of decisions
        equal to the SavedModel's before and after the recalibration, which images are
        decided otherwise, and `latency_ms` for one image on one thread.

    Raises:
        FileExistsError: `output_dir` exists.
        FileNotFoundError: `saved_model_path` is not an exported model.
        ImportError: `ai-edge-litert` is not installed.
        ParityError: the float32 file decides otherwise than the SavedModel, or a file
            accepts invalid images; nothing is left behind.
        ValueError: the detector cannot be exported to TFLite, the model is damaged, or
            needs operators that are not builtin (the error names layer and operator),
            its threshold was chosen by a method that needs more than known images and
            `formats` are not float32 alone, or the images are not those of it.

    Example:

    >>> export.tflite("mnist", "edge/mnist", known_images=validation)
    PosixPath('edge/mnist')
    """
    formats = _check_formats(formats)
    tflite_predictor.interpreter_class()
    source = edge.ConversionSource(
        saved_model_path,
        "tflite",
        known_images,
        unknown_images,
        target_acceptance,
        requantises=set(formats) != {"float32"},
    )
    with files.atomic_directory(output_dir) as folder:
        served = _Served(source, tf.float32)
        float32 = served.convert()
        source.look(served.dtypes)
        report = {**source.report(), "files": {}}
        for name in formats:
            entry = _write(folder / name, name, source, served, float32)
            entry["bytes_per_float32_byte"] = entry["bytes"] / len(float32)
            report["files"][name] = entry
        files.write_json(folder / "parity.json", report)
    return pathlib.Path(output_dir)


def _write(folder, name, source, served, float32):
    """Writes one format into the new `folder`; returns its entry of the report."""
    content = {
        "float32": lambda: float32,
        "float16": lambda: _halve(float32),
        "dynamic_range": lambda: served.convert(small=True),
        "int8": lambda: _integer(source),
    }[name]()
    threshold, points = source.threshold, source.operating_points
    predictor = _store(folder, name, content, source, threshold, points)
    if name != "float32":
        scores = predictor.predict(source.known)["ood_score"]
        threshold, points = source.recalibrate(scores)
        predictor = _store(folder, name, content, source, threshold, points)
    answers = source.ask(predictor.predict)
    if name == "float32":
        source.check_float32(answers)
    edge.check_rejects(predictor.predict, source.image_shape)
    file = folder / tflite_predictor.FILE
    run = tflite_predictor.runner(file.read_bytes())
    image = np.full((1, *source.image_shape), 0.5, np.float32)
    if name == "int8":
        image = (image * 255).astype(np.uint8)
    return {
        "bytes": file.stat().st_size,
        **source.compare(answers, threshold),
        "latency_ms": edge.latency_ms(lambda: run(image=image)),
    }


def _store(folder, name, content, source, threshold, operating_points):
    """Writes file and manifest; returns the predictor for them."""
    flatbuffer = Flatbuffer(content)
    if flatbuffer.has_custom_operators():
        raise ValueError(
            f"the {name} file of {source.path} needs operators beyond TFLite's builtin "
            "ones; nothing was written"
        )
    flatbuffer.threshold = threshold.value
    flatbuffer.name_tensors()
    folder.mkdir(exist_ok=True)
    (folder / tflite_predictor.FILE).write_bytes(flatbuffer.to_bytes())
    image = {**source.manifest["input"]["image"], "shape": [1, *source.image_shape]}
    if name == "int8":
        image |= {"dtype": "uint8", "range": [0, 255]}
    manifest.write(
        folder,
        source.manifest_of_copy(name, threshold, operating_points, {"image": image}),
    )
    return _Unproved(folder)


class _Unproved(tflite_predictor.TFLitePredictor):
    """A file that was just written; what it does wrong, the comparison will say."""

    def _check_alike(self):
        pass


def _halve(float32: bytes) -> bytes:
    flatbuffer = Flatbuffer(float32)
    flatbuffer.halve_weights()
    return flatbuffer.to_bytes()


def _integer(source: edge.ConversionSource) -> bytes:
    """The file that computes the network in 8 bits."""
    some = np.linspace(0, len(source.known) - 1, _MOST_REPRESENTATIVE).astype(int)
    pixels = np.rint(source.known[np.unique(some)] * 255).astype(np.uint8)

    def representative():
        for image in pixels:
            yield [image[np.newaxis]]

    served = _Served(source, tf.uint8)
    with served.converter() as converter, warnings.catch_warnings():
        # The quantiser runs on an interpreter that TensorFlow itself deprecates.
        warnings.simplefilter("ignore", UserWarning)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        quantiser = served.run(
            lambda: tf.lite.experimental.QuantizationDebugger(
                converter=converter, debug_dataset=representative
            )
        )
        calibrated = Flatbuffer(quantiser.calibrated_model)
        spared = calibrated.spare_head()
        quantiser.calibrated_model = calibrated.to_bytes()
        quantiser.options = tf.lite.experimental.QuantizationDebugOptions(
            denylisted_nodes=spared
        )
        flatbuffer = Flatbuffer(quantiser.get_nondebug_quantized_model())
    flatbuffer.drop_needless_rounding()
    return flatbuffer.to_bytes()


class _Served:
    """The model as the converter is given it, with one image of `dtype` as its input.

    The batch size is fixed: the shapes of all tensors are then known, without which
    interpreters fall back to slower ways, and what serves empty batches vanishes.

    Attributes:
        dtypes: The floating-point types other than float32 that it computed in.
    """

    def __init__(self, source: edge.ConversionSource, dtype: tf.DType) -> None:
        self._source = source
        self._module = tf.Module()
        self._module.model = model = tf.saved_model.load(str(source.path))
        image = tf.TensorSpec((1, *source.image_shape), dtype, name="image")

        @tf.function(input_signature=[image], autograph=False)
        def serve(image):
            if dtype == tf.uint8:
                image = tf.cast(image, tf.float32) / 255.0
            return model.signatures["serving_default"](image=image)

        self._serve, self.dtypes = plain_graph.plain(serve, "tflite")

    def convert(self, small: bool = False) -> bytes:
        """The file with weights in float32, or, if `small`, with weights in 8 bits."""
        with self.converter() as converter:
            if small:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            return self.run(converter.convert)

    @contextlib.contextmanager
    def converter(self) -> Iterator[tf.lite.TFLiteConverter]:
        """Yields a converter that is not configured yet."""
        signatures = {"serving_default": self._serve.get_concrete_function()}
        with tempfile.TemporaryDirectory(prefix=files.TEMPORARY) as folder:
            tf.saved_model.save(self._module, folder, signatures=signatures)
            converter = tf.lite.TFLiteConverter.from_saved_model(
                folder, signature_keys=["serving_default"]
            )
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            yield converter

    def run(self, convert: Callable[[], Any]) -> Any:
        """Returns `convert()`.

        Raises:
            ValueError: with the layers and operators that cannot be converted.
        """
        try:
            return convert()
        except Exception as error:
            # The converter raises its own class, which is not public.
            if type(error).__name__ != "ConverterError":
                raise
            path = self._source.path
            operators = set(re.findall(r"\btf\.(\w+)", str(error)))
            nodes = plain_graph.nodes_of(self._serve, operators)
            if nodes:
                refused = plain_graph.refusal(path, "TFLite", nodes)
            else:
                refused = ValueError(
                    f"TFLite's builtin operators cannot express {path} (detector "
                    f"{self._source.manifest['detector']['name']!r}); nothing was "
                    f"written. The converter said: {error}"
                )
            raise refused from error


def _check_formats(formats: str | Iterable[str]) -> list[str]:
    formats = [formats] if isinstance(formats, str) else list(formats)
    if not formats or not set(formats) <= set(FORMATS):
        raise ValueError(
            f"`formats` must be some of {', '.join(FORMATS)}. Received: {formats}"
        )
    return formats
