"""A folder of static files with which an exported model runs in a browser."""

import pathlib
import shutil
from typing import Any

import numpy as np

from ood_keras import files
from ood_keras.conventions import UNKNOWN_LABEL
from ood_keras.export import edge
from ood_keras.export.parity import ParityError
from ood_keras.inference import onnx_predictor, tflite_predictor
from ood_keras.inference.edge_predictor import EdgePredictor
from ood_keras.types import Answer, Json, Path

# What `ood.js` reads.
LABELS = "labels.json"
_PAGE = pathlib.Path(__file__).parent / "browser_page"
# Of noise; that the files which these are made from are right was proved before.
_NUM_COMPARED = 32


def browser(
    output_dir: Path, *, tflite: Path | None = None, onnx: Path | None = None
) -> pathlib.Path:
    """Makes a page for the browser of files that `tflite` and `onnx` wrote.

    The folder holds a model for each of two runtimes from npm, of which one is enough:
    LiteRT.js (`@litertjs/core`) and `onnxruntime-web`. LiteRT.js takes no strings and
    no bools, so `label` is left out of the TFLite file, and `accepted` and `valid` are
    int32, 0 or 1. The ONNX file takes `image` alone: its `threshold` has a default,
    the model's. Labels, thresholds and the way from image files to pixels are in
    `labels.json`; `ood.js` reads it, and decides for files and pixels in three lines;
    `index.html` is a page that does. Operating points apply there, by name.

    Args:
        output_dir: A new folder.
        tflite: `DIR/FORMAT`, one of the folders that `export.tflite` wrote, or its
            `model.tflite`; any format. `None` leaves LiteRT.js out.
        onnx: What `export.onnx` wrote. `None` leaves `onnxruntime-web` out.

    Returns:
        `output_dir`, a `pathlib.Path`. Serve it with any server of static files, after
        `npm install` in it.

    Raises:
        FileExistsError: `output_dir` exists.
        FileNotFoundError: `tflite` or `onnx` is not there.
        ImportError: the runtime or `onnx` is not installed.
        ParityError: a file answers otherwise than the one that it was made from;
            nothing is left behind.
        ValueError: neither is given, or they are not of one model.

    Example:

    >>> export.browser("page", tflite="edge/tflite/float32", onnx="edge/onnx")
    PosixPath('page')
    """
    sources: dict[str, Any] = {}
    if onnx is not None:
        sources["onnx"] = onnx_predictor.ONNXPredictor(onnx)
    if tflite is not None:
        sources["litert"] = tflite_predictor.TFLitePredictor(tflite)
    _check_alike(sources)
    any_source = next(iter(sources.values()))
    labels: Json = {
        "class_names": list(any_source.class_names),
        "unknown_label": UNKNOWN_LABEL,
        "image": {
            "shape": list(any_source.image_shape),
            "background": any_source.background,
            "exif_orientation": any_source.exif_orientation,
        },
        "runtimes": {},
        "converted_from": any_source.manifest["converted_from"],
    }
    with files.atomic_directory(output_dir) as folder:
        for page in sorted(_PAGE.iterdir()):
            shutil.copyfile(page, folder / page.name)
        if "onnx" in sources:
            content = _default_threshold(sources["onnx"], _file(onnx, "model.onnx"))
            _compare(sources["onnx"], _run_onnx(content))
            (folder / onnx_predictor.FILE).write_bytes(content)
        if "litert" in sources:
            content = _plain_outputs(_file(tflite, "model.tflite"))
            _compare(sources["litert"], _run_tflite(content))
            (folder / tflite_predictor.FILE).write_bytes(content)
        for name, source in sources.items():
            labels["runtimes"][name] = {
                "file": {
                    "onnx": onnx_predictor.FILE,
                    "litert": tflite_predictor.FILE,
                }[name],
                "dtype": source.manifest["input"]["image"]["dtype"],
                "threshold": source.threshold,
                "operating_points": source.operating_points,
            }
        files.write_json(folder / LABELS, labels)
    return pathlib.Path(output_dir)


def _check_alike(sources: dict[str, EdgePredictor]) -> None:
    if not sources:
        raise ValueError(
            "expected `tflite`, `onnx` or both: folders that export.tflite and "
            "export.onnx wrote. Received neither"
        )
    origins = {
        source.manifest["converted_from"]["manifest_sha256"]
        for source in sources.values()
    }
    if len(origins) > 1:
        raise ValueError(
            "`tflite` and `onnx` were converted from different models; convert one "
            "SavedModel to both"
        )


def _file(path: Path | None, name: str) -> bytes:
    path = pathlib.Path(str(path))
    return (path / name if path.is_dir() else path).read_bytes()


def _plain_outputs(content: bytes) -> bytes:
    # TensorFlow, which holds the schema, is slow to load.
    from ood_keras.export.flatbuffer import Flatbuffer

    flatbuffer = Flatbuffer(content)
    flatbuffer.name_tensors()
    flatbuffer.plain_outputs()
    return flatbuffer.to_bytes()


def _default_threshold(source: EdgePredictor, content: bytes) -> bytes:
    """The ONNX file with a value for `threshold` where none is given."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(content)
    value = np.array(source.threshold, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(value, "threshold"))
    return model.SerializeToString()


def _run_onnx(content):
    session = onnx_predictor.session(content)
    names = [output.name for output in session.get_outputs()]

    def run(image):
        return dict(zip(names, session.run(None, {"image": image}), strict=True))

    return run


def _run_tflite(content):
    run = tflite_predictor.runner(content)

    def run_one(image):
        return run(image=image)

    return run_one


def _compare(source: Any, run: Any) -> None:
    """Raises unless `run` answers noise, and what is no image, as `source` does."""
    shape = source.image_shape
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (_NUM_COMPARED, *shape)).astype(np.uint8)
    if source.manifest["input"]["image"]["dtype"] == "uint8":
        given: np.ndarray = pixels
    else:
        # Fainter and fainter, so that not all scores are those of strong noise.
        fading = pixels * np.linspace(0, 1, _NUM_COMPARED).reshape(-1, 1, 1, 1)
        images = (fading / 255).astype(np.float32)
        given = np.stack([*images, *edge.bad_images(shape).values()])
    for image in given[:, None]:  # Batches are rounded otherwise.
        expected: Answer = source.predict(image)
        answer = run(image)
        for name in ("class_id", "ood_score", "accepted", "valid", "probabilities"):
            if not np.array_equal(answer[name], expected[name]):
                raise ParityError(
                    f"the file for the browser answers {name} = {answer[name]} to an "
                    "image that the file which it was made from answers with "
                    f"{expected[name]}. Nothing was written. The runtime is broken"
                )
