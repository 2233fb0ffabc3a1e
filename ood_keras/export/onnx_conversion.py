"""An ONNX file from an exported model."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from ood_keras import files
from ood_keras.conventions import UNKNOWN_LABEL
from ood_keras.export import edge
from ood_keras.inference import manifest, onnx_predictor

OPSET = 18


def onnx(
    saved_model_path,
    output_dir,
    *,
    known_images,
    unknown_images=None,
    target_acceptance=None,
):
    """Converts an exported model to an ONNX file that decides in the same way.

    The graph takes `image` (batch, height, width, channels) and `threshold`, a scalar:
    the largest accepted `ood_score`. It gives `class_id`, `probabilities`, `ood_score`,
    `accepted` and `valid`. ONNX converters lose strings: the labels, and the
    SavedModel's threshold, are in the metadata of the file, as `class_names` (JSON),
    `unknown_label` and `threshold`, and in `manifest.json`.

    Args:
        saved_model_path: `DIR/VERSION`, as `saved_model` wrote it, or the name of a
            model that comes with the package.
        output_dir: A new folder. It receives `model.onnx`, `manifest.json` and
            `parity.json`, the comparison with the SavedModel.
        known_images, unknown_images: Image data on which to compare, floats in [0, 1],
            labels are ignored; `unknown_images` may be `None`.
        target_acceptance: Fraction of known images to accept; `None` takes the
            SavedModel's threshold as it is.

    Returns:
        `output_dir`, a `pathlib.Path`.

    Raises:
        FileExistsError: `output_dir` exists.
        FileNotFoundError: `saved_model_path` is not an exported model.
        ImportError: `tf2onnx`, `onnx` or `onnxruntime` is not installed.
        ParityError: the file decides otherwise than the SavedModel, or accepts what is
            no image; nothing is left behind.
        ValueError: the detector cannot be exported to ONNX, the model is damaged, or
            the images are not those of it.

    Example:

    >>> export.onnx("saved_models/mnist/1", "edge/mnist_onnx", known_images=validation)
    PosixPath('edge/mnist_onnx')
    """
    onnx_predictor.onnxruntime()
    converter = _converter()
    source = edge.Source(
        saved_model_path, "onnx", known_images, unknown_images, target_acceptance
    )
    with files.atomic_directory(output_dir) as folder:
        path = folder / onnx_predictor.FILE
        path.write_bytes(_converted(source, converter))
        image = source.manifest["input"]["image"]
        inputs = {"image": image, "threshold": "float32 scalar: largest ood_score"}
        content = source.manifest_of_copy(
            "onnx", source.threshold, source.operating_points, inputs
        )
        content["output"].pop("label")
        manifest.write(folder, content)
        predictor = onnx_predictor.ONNXPredictor(folder)
        answers = source.ask(predictor.predict)
        source.check_float32(answers)
        edge.check_rejects(predictor.predict, source.image_shape)
        one = np.full((1, *source.image_shape), 0.5, np.float32)
        entry = {
            "bytes": path.stat().st_size,
            **source.compare(answers, source.threshold),
            "latency_ms": edge.latency_ms(lambda: predictor.predict(one)),
        }
        report = {**source.report(), "files": {"onnx": entry}}
        files.write_json(folder / "parity.json", report)
        # Once more, because it answers for the report too.
        manifest.write(folder, content)
    return pathlib.Path(output_dir)


def _converted(source, converter):
    """The ONNX file, bytes."""
    model = tf.saved_model.load(str(source.path))
    image = tf.TensorSpec((None, *source.image_shape), tf.float32, name="image")
    limit = tf.TensorSpec((), tf.float32, name="threshold")

    @tf.function(input_signature=[image, limit], autograph=False)
    def serve(image, threshold):
        limits = tf.fill(tf.shape(image)[:1], threshold)
        answer = model.signatures["predict_at"](image=image, threshold=limits)
        return {name: answer[name] for name in answer if name != "label"}

    graph, _ = converter.convert.from_function(
        serve, input_signature=[image, limit], opset=OPSET
    )
    _join_clips(graph.graph)
    for name, value in {
        "class_names": json.dumps(source.manifest["class_names"], ensure_ascii=False),
        "unknown_label": UNKNOWN_LABEL,
        "threshold": repr(source.threshold.value),
    }.items():
        graph.metadata_props.add(key=name, value=value)
    return graph.SerializeToString()


def _join_clips(graph):
    """Makes one Clip of each Max(Min(x, high), low).

    ONNX Runtime takes ten times as long for the pair, which the converter makes of
    `tf.clip_by_value`, as for the one.
    """
    scalars = {tensor.name for tensor in graph.initializer if not tensor.dims}
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        inner = makers.get(node.input[0]) if node.op_type == "Max" else None
        if inner is None or inner.op_type != "Min":
            continue
        low, high = node.input[1:], inner.input[1:]
        if len(low) == len(high) == 1 and scalars.issuperset([*low, *high]):
            node.op_type = "Clip"
            node.input[:] = [inner.input[0], *low, *high]
    used = {name for node in graph.node for name in node.input}
    used |= {output.name for output in graph.output}
    for node in [node for node in graph.node if node.op_type == "Min"]:
        if used.isdisjoint(node.output):
            graph.node.remove(node)


def _converter():
    try:
        import onnx as _  # noqa: F401
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            "the conversion to ONNX needs tf2onnx and onnx, which are not installed: "
            "pip install 'ood_keras[onnx]' (or pip install tf2onnx onnx)"
        ) from error
    return tf2onnx
