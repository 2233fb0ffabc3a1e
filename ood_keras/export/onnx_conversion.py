"""An ONNX file from an exported model."""

import contextlib
import json
import logging
import pathlib

import numpy as np
import tensorflow as tf

from ood_keras import files
from ood_keras.conventions import UNKNOWN_LABEL
from ood_keras.export import edge, plain_graph
from ood_keras.inference import manifest, onnx_predictor
from ood_keras.types import Images, Path

OPSET = 18


def onnx(
    saved_model_path: Path,
    output_dir: Path,
    *,
    known_images: Images,
    unknown_images: Images | None = None,
    target_acceptance: float | None = None,
) -> pathlib.Path:
    """Converts an exported model to an ONNX file that decides in the same way.

    The graph takes `image` (batch, height, width, channels) and `threshold`, a scalar:
    the largest accepted `ood_score`. It gives `class_id`, `probabilities`, `ood_score`,
    `accepted` and `valid`. ONNX converters lose strings: the labels, and the
    SavedModel's threshold, are in the metadata of the file, as `class_names` (JSON),
    `unknown_label` and `threshold`, and in `manifest.json`.

    The file computes in float32, also where the network computes in half precision.
    Operators that ONNX lacks are written in others, where that is possible: exact GELU,
    resizing with any kernel, HSV.

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
        ParityError: the file decides otherwise than the SavedModel, or accepts
            invalid images; nothing is left behind.
        ValueError: the detector cannot be exported to ONNX, the model needs operators
            that ONNX or its runtime lacks (the error names layer and operator), is
            damaged, or the images are not those of it.

    Example:

    >>> export.onnx("mnist", "edge/mnist_onnx", known_images=validation)
    PosixPath('edge/mnist_onnx')
    """
    onnx_predictor.onnxruntime()
    converter = _converter()
    source = edge.ConversionSource(
        saved_model_path, "onnx", known_images, unknown_images, target_acceptance
    )
    with files.atomic_directory(output_dir) as folder:
        path = folder / onnx_predictor.FILE
        graph, dtypes = _convert(source, converter)
        source.look(dtypes)
        path.write_bytes(_describe(graph, source))
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


def _convert(source, converter):
    """The graph in ONNX, and the types besides float32 that it was computed in.

    Raises:
        ValueError: it needs operators that ONNX or its runtime lacks.
    """
    model = tf.saved_model.load(str(source.path))
    image = tf.TensorSpec((None, *source.image_shape), tf.float32, name="image")
    limit = tf.TensorSpec((), tf.float32, name="threshold")

    @tf.function(input_signature=[image, limit], autograph=False)
    def serve(image, threshold):
        limits = tf.fill(tf.shape(image)[:1], threshold)
        answer = model.signatures["predict_at"](image=image, threshold=limits)
        return {name: answer[name] for name in answer if name != "label"}

    serve, dtypes = plain_graph.plain(serve, "onnx")
    with _complaints() as failed:
        graph, _ = converter.convert.from_function(
            serve, input_signature=[image, limit], opset=OPSET
        )
    _check_operators(graph, source, failed)
    _join_clips(graph.graph)
    _check_runs(graph, source)
    return graph, dtypes


def _describe(graph, source):
    """The file, bytes, with what ONNX has no place for in its graph."""
    for name, value in {
        "class_names": json.dumps(source.manifest["class_names"], ensure_ascii=False),
        "unknown_label": UNKNOWN_LABEL,
        "threshold": repr(source.threshold.value),
    }.items():
        graph.metadata_props.add(key=name, value=value)
    return graph.SerializeToString()


@contextlib.contextmanager
def _complaints():
    """Yields a list of the nodes that tf2onnx logs it could not convert.

    After a failure it goes on, and writes an invalid file.
    """
    found = []

    def keep(record):
        # "Tensorflow op [%s: %s] is not supported", "Failed to convert node %r ...".
        if record.levelno < logging.ERROR:
            return True
        if isinstance(record.args, tuple):
            found.extend(str(value) for value in record.args[:1])
        return False

    logger = logging.getLogger("tf2onnx.tfonnx")
    logger.addFilter(keep)
    try:
        yield found
    finally:
        logger.removeFilter(keep)


def _check_operators(graph, source, failed):
    """Raises if the graph holds an operator that ONNX lacks."""
    from onnx import defs

    opsets = {entry.domain: entry.version for entry in graph.opset_import}
    unknown = [
        (node.op_type, node.name)
        for node in _nodes(graph.graph)
        if node.name in failed
        or node.domain not in opsets
        or not _has(defs, node.op_type, opsets[node.domain], node.domain)
    ]
    if unknown:
        raise plain_graph.refusal(source.path, "ONNX", unknown)


def _has(defs, operator, version, domain):
    try:
        defs.get_schema(operator, version, domain)
    except defs.SchemaError:
        return False
    return True


def _nodes(graph):
    """Every node, those in the bodies of loops and branches included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body)


def _check_runs(graph, source):
    """Raises unless the runtime takes the graph, and two images."""
    images = np.full((2, *source.image_shape), 0.5, np.float32)
    try:
        session = onnx_predictor.session(graph.SerializeToString())
        session.run(None, {"image": images, "threshold": np.zeros((), np.float32)})
    except Exception as error:
        # The runtime's own classes share no parent but Exception.
        text = str(error)
        named = [n for n in _nodes(graph.graph) if n.name and n.name in text]
        if not named:
            raise ValueError(
                f"{source.path} cannot be converted to ONNX: ONNX Runtime does not run "
                f"the converted graph. Nothing was written. It said: {error}"
            ) from error
        longest = max(named, key=lambda node: len(node.name))
        operators = [(longest.op_type, _name(graph.graph, longest))]
        raise plain_graph.refusal(source.path, "ONNX", operators) from error


def _name(graph, node):
    """The name of a node, or of the next one after it that has TensorFlow's name."""
    while "/" not in node.name:
        after = [other for other in graph.node if set(other.input) & set(node.output)]
        if not after:
            break
        node = after[0]
    return node.name


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
            "pip install tf2onnx onnx onnxruntime"
        ) from error
    return tf2onnx
