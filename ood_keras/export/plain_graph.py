"""The graph of an exported model as the converters know it: few operators, float32.

Converters pass on what they do not know, and half precision only as far as they know
it. So the graph that they are given is a copy in which every number is a float32, and
in which operators that they lack are written in others that they have.
"""

import itertools
import re
from collections.abc import Collection, Iterable
from typing import Literal

import numpy as np
import tensorflow as tf

from ood_keras.types import Path

_FLOATS = {
    tf.float16.as_datatype_enum: "float16",
    tf.bfloat16.as_datatype_enum: "bfloat16",
    tf.float64.as_datatype_enum: "float64",
}
_FLOAT32 = tf.float32.as_datatype_enum
_MOST_LISTED = 10
_RESIZES = ("ScaleAndTranslate", "ResizeBicubic", "ResizeArea")
# Keras enters the scope of a layer twice in each call, and TensorFlow counts.
_COUNTED = re.compile(r"(.+)_\d+")


def plain(
    function: tf.types.experimental.PolymorphicFunction,
    target: Literal["tflite", "onnx"],
) -> tuple[tf.types.experimental.PolymorphicFunction, list[str]]:
    """The same function in operators that a converter has, and in float32.

    Operators that neither this nor the converter knows stay as they are.

    Args:
        function: A `tf.function` with an input signature, that returns a dict.
        target: "tflite" or "onnx".

    Returns:
        `(function, dtypes)`: a `tf.function` with the same signature, and the
        floating-point types other than float32 that the old one computed in, a sorted
        list such as `["float16"]`. It is the old one itself if nothing had to change.

    Raises:
        ValueError: the function reads the bits of numbers that are not float32.
    """
    concrete = function.get_concrete_function()
    frozen = _freeze(concrete)
    graph = frozen.graph.as_graph_def()
    constants = _capture(concrete)
    _set_constants(graph, constants)
    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.op.name)
        for tensor in frozen.inputs
        if tensor.op.name not in constants
    ]
    made_inline = _allow_inlining(graph)
    dtypes = _make_float32(graph)
    called = _replace_resizes(graph, specs)
    for operator, rewritten in _REWRITTEN[target].items():
        called += _replace(graph, operator, rewritten)
    if not (constants or made_inline or dtypes or called):
        return function, dtypes
    _rename_functions(graph, {made.name for made in called})
    results = dict(
        zip(
            sorted(concrete.structured_outputs),
            (tensor.name for tensor in frozen.outputs),
            strict=True,
        )
    )
    inputs = {spec.name for spec in specs}
    kept = [node for node in graph.node if node.name not in inputs]
    del graph.node[:]
    graph.node.extend(kept)

    @tf.function(input_signature=specs, autograph=False)
    def call(*arguments):
        given = {
            f"{spec.name}:0": value
            for spec, value in zip(specs, arguments, strict=True)
        }
        outputs = tf.graph_util.import_graph_def(
            graph, given, list(results.values()), name="model"
        )
        return dict(zip(results, outputs, strict=True))

    # They exist as long as something holds them.
    call.called = called
    return call, dtypes


def place(node: str) -> str:
    """Where in a model a node is, for an error: its layer, and the node itself.

    Args:
        node: Its name in the graph of an exported model.
    """
    parts = node.split("/")[:-1]
    counted = [index for index, part in enumerate(parts) if _COUNTED.fullmatch(part)]
    if not counted:
        return f"{node}, outside of any layer"
    layer = _COUNTED.fullmatch(parts[counted[-1]])[1]  # type: ignore[index]
    return f"layer {layer!r}, {node.rpartition('StatefulPartitionedCall/')[2]}"


def refusal(
    path: Path, target: str, operators: Iterable[tuple[str, str]]
) -> ValueError:
    """The error for operators that a format does not have.

    Args:
        path: The model.
        target: The format, as people write it.
        operators: `[(operator, name of its node)]`, not empty.

    Returns:
        A `ValueError`.
    """
    listed = [
        f"operator {operator!r} ({place(node)})"
        for operator, node in dict.fromkeys(operators)
    ]
    if len(listed) > _MOST_LISTED:
        listed[_MOST_LISTED:] = [f"and {len(listed) - _MOST_LISTED} more"]
    return ValueError(
        f"{path} cannot be converted to {target}, which cannot express: "
        f"{'; '.join(listed)}. Nothing was written. Build that layer of other "
        "operations, or leave it out and prepare the images before the model; or serve "
        "the SavedModel"
    )


def nodes_of(
    function: tf.types.experimental.PolymorphicFunction, operators: Collection[str]
) -> list[tuple[str, str]]:
    """`[(operator, name)]` of the nodes of a `tf.function` that are such operators."""
    graph = _freeze(function.get_concrete_function()).graph.as_graph_def()
    return [(node.op, node.name) for node in _nodes(graph) if node.op in operators]


def _freeze(function):
    from tensorflow.python.framework import convert_to_constants

    try:
        return convert_to_constants.convert_variables_to_constants_v2(
            function, lower_control_flow=False, aggressive_inlining=True
        )
    except ValueError as error:
        raise ValueError(
            "the network changes its own variables while it answers, which no file for "
            "the edge can: look for layers that are random, or learn, outside of "
            f"training, and leave them out. TensorFlow says: {error}"
        ) from error


def _capture(function):
    """The tensors, no variables, that a function holds: `{name of its input: array}`.

    A `Normalization` layer keeps its mean so. tf2onnx would ask the user for it.
    """
    return {
        inside.op.name: outside.numpy()
        for outside, inside in function.graph.captures
        if outside.dtype not in (tf.resource, tf.variant)
    }


def _set_constants(graph, constants):
    for node in graph.node:
        if node.name in constants:
            value = tf.make_tensor_proto(constants[node.name])
            node.op = "Const"
            node.attr.clear()
            node.attr["dtype"].type = value.dtype
            node.attr["value"].tensor.CopyFrom(value)


def _nodes(graph):
    """Every node of a graph, those in functions that it calls included."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _allow_inlining(graph):
    """Lets what Keras compiles by itself be converted; returns whether there is any."""
    found = False
    for part in (*_nodes(graph), *graph.library.function):
        for name in ("_noinline", "_XlaMustCompile"):
            if name in part.attr:
                found |= part.attr[name].b
                part.attr.pop(name)
    return found


def _rename_functions(graph, kept):
    """Gives the functions of a changed graph names of their own."""
    from tensorflow.python.eager import context

    del graph.library.gradient[:]
    names = {
        function.signature.name: f"{function.signature.name}_plain_{next(_numbers)}"
        for function in graph.library.function
        if function.signature.name not in kept
    }

    def visit(attributes):
        for value in attributes.values():
            for function in (value.func, *value.list.func):
                if function.name:
                    function.name = names.get(function.name, function.name)
                    visit(function.attr)

    for node in _nodes(graph):
        node.op = names.get(node.op, node.op)
        visit(node.attr)
    for function in graph.library.function:
        function.signature.name = names.get(
            function.signature.name, function.signature.name
        )
        if function.signature.name not in kept:
            context.context().add_function_def(function)


_numbers = itertools.count()


def _make_float32(graph):
    """Makes every floating-point number a float32; returns the other types."""
    found = []

    def number(kind):
        if kind not in _FLOATS:
            return kind
        found.append(_FLOATS[kind])
        return _FLOAT32

    def visit(attributes):
        for value in attributes.values():
            value_of = value.WhichOneof("value")
            if value_of == "type":
                value.type = number(value.type)
            elif value_of == "tensor" and value.tensor.dtype in _FLOATS:
                number(value.tensor.dtype)
                array = tf.make_ndarray(value.tensor).astype(np.float32)
                value.tensor.CopyFrom(tf.make_tensor_proto(array))
            elif value_of == "func":
                visit(value.func.attr)
            elif value_of == "list":
                value.list.type[:] = map(number, value.list.type)
                for function in value.list.func:
                    visit(function.attr)

    for node in _nodes(graph):
        # Gradients of its own are Python's, and nothing here is differentiated.
        node.attr.pop("_gradient_op_type", None)
        before = len(found)
        visit(node.attr)
        if node.op == "Bitcast" and len(found) > before:
            raise ValueError(
                f"{place(node.name)}: operator 'Bitcast' reads the bits of a "
                f"{found[-1]}, which has no equal in float32, the only type that is "
                "converted. Use another operation there"
            )
    # Within functions, results have the names that their operators gave them.
    for node in graph.node:
        if node.op == "Cast" and node.attr["SrcT"].type == node.attr["DstT"].type:
            node.op = "Identity"
            node.attr["T"].type = node.attr["SrcT"].type
            for name in ("SrcT", "DstT", "Truncate"):
                node.attr.pop(name, None)
    for function in graph.library.function:
        signature = function.signature
        for argument in (*signature.input_arg, *signature.output_arg):
            argument.type = number(argument.type)
    return sorted(set(found))


def _erfc(x):
    return 1.0 - tf.math.erf(x)


def _erf(x):
    """To some 1e-7, as TensorFlow's own kernel: x p(x^2) / q(x^2), 1 from 4 on."""
    x = tf.clip_by_value(x, -4.0, 4.0)
    values = []
    for coefficients in _ERF:
        value = tf.zeros_like(x)
        for coefficient in coefficients:
            value = value * (x * x) + coefficient
        values.append(value)
    return x * values[0] / values[1]


# The largest power first.
_ERF = (
    (
        -2.72614225801306e-10,
        2.77068142495902e-08,
        -2.10102402082508e-06,
        -5.69250639462346e-05,
        -7.34990630326855e-04,
        -2.95459980854025e-03,
        -1.60960333262415e-02,
    ),
    (
        -1.45660718464996e-05,
        -2.13374055278905e-04,
        -1.68282697438203e-03,
        -7.37332916720468e-03,
        -1.42647390514189e-02,
    ),
)


def _expm1(x):
    return tf.exp(x) - 1.0


def _log1p(x):
    return tf.math.log(x + 1.0)


def _rgb_to_hsv(rgb):
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    value = tf.reduce_max(rgb, axis=-1)
    spread = value - tf.reduce_min(rgb, axis=-1)
    saturation = tf.where(value > 0, spread / tf.maximum(value, _TINY), 0.0)
    sixth = 1.0 / (6.0 * tf.maximum(spread, _TINY))
    hue = tf.where(
        tf.equal(red, value),
        sixth * (green - blue),
        tf.where(
            tf.equal(green, value),
            sixth * (blue - red) + 2.0 / 6.0,
            sixth * (red - green) + 4.0 / 6.0,
        ),
    )
    hue = tf.where(spread > 0, hue, 0.0)
    hue = tf.where(hue < 0, hue + 1.0, hue)
    return tf.stack([hue, saturation, value], axis=-1)


def _hsv_to_rgb(hsv):
    hue, saturation, value = hsv[..., :1], hsv[..., 1:2], hsv[..., 2:3]
    ramps = [
        tf.abs(hue * 6.0 - 3.0) - 1.0,
        2.0 - tf.abs(hue * 6.0 - 2.0),
        2.0 - tf.abs(hue * 6.0 - 4.0),
    ]
    ramps = tf.clip_by_value(tf.concat(ramps, axis=-1), 0.0, 1.0)
    return value * (1.0 - saturation + saturation * ramps)


_TINY = 1e-30
_COLOURS = {"RGBToHSV": _rgb_to_hsv, "HSVToRGB": _hsv_to_rgb}
# What each converter lacks: operators of one input, and functions that do the same.
# TFLite has no Erfc either, but makes one operator of the formula of GELU around it.
_REWRITTEN = {
    "onnx": {"Erfc": _erfc, "Expm1": _expm1, "Log1p": _log1p, **_COLOURS},
    "tflite": {"Erf": _erf, **_COLOURS},
}


def _replace(graph, operator, rewritten):
    """Writes an operator in others, wherever it occurs; returns the functions made."""
    if not any(node.op == operator for node in _nodes(graph)):
        return []
    function = tf.function(rewritten, autograph=False).get_concrete_function(
        tf.TensorSpec(None, tf.float32)
    )
    for body in (graph, *graph.library.function):
        renamed = {}
        for node in body.node if body is graph else body.node_def:
            if node.op == operator:
                # Within a function, a result has the name that its operator gave it.
                result = "output" if operator in _COLOURS else "y"
                renamed[f"{node.name}:{result}:"] = f"{node.name}:output:"
                _call(node, function)
        if body is not graph:
            _rename(body, renamed)
    _add_to_library(graph, function)
    return [function]


def _rename(body, renamed):
    """Renames the results of nodes wherever the body of a function reads them."""

    def name(text):
        for before, after in renamed.items():
            if text.startswith(before):
                return after + text.removeprefix(before)
        return text

    for node in body.node_def:
        node.input[:] = map(name, node.input)
    for key, text in body.ret.items():
        body.ret[key] = name(text)


def _call(node, function, inputs=None):
    """Makes a node of a graph call `function` in place of what it does."""
    if inputs is not None:
        node.input[:] = inputs
    data = [name for name in node.input if not name.startswith("^")]
    node.op = "PartitionedCall"
    node.attr.clear()
    node.attr["f"].func.name = function.name
    node.attr["Tin"].list.type.extend([_FLOAT32] * len(data))
    node.attr["Tout"].list.type.append(_FLOAT32)


def _add_to_library(graph, function):
    graph.library.function.append(function.function_def)
    graph.library.function.extend(function.graph.as_graph_def().library.function)


def _replace_resizes(graph, specs):
    """Writes resizing as two products with matrices, one for each axis.

    Whatever its kernel, resizing is linear and treats rows and columns alike; so the
    matrices are what it makes of the unit matrix.
    """
    nodes = [
        node
        for node in graph.node
        if node.op in _RESIZES and node.attr["T"].type == _FLOAT32
    ]
    if not nodes:
        return []
    functions = []
    for node, arguments in zip(nodes, _trace_inputs(graph, nodes, specs), strict=True):
        functions.append(_resizing(*_matrices(node, *arguments)))
        _call(node, functions[-1], node.input[:1])
        _add_to_library(graph, functions[-1])
    return functions


def _resizing(rows, columns):
    """A function that resizes `(batch, height, width, channels)` by two matrices."""

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, rows.shape[1], columns.shape[1], None), tf.float32)
        ],
        autograph=False,
    )
    def resize(images):
        images = tf.einsum("oh,bhwc->bowc", rows, images)
        return tf.einsum("pw,bowc->bopc", columns, images)

    return resize.get_concrete_function()


def _trace_inputs(graph, nodes, specs):
    """What each resizing node is given, the shape of the images in their place."""
    with tf.Graph().as_default() as known, tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(graph, name="")
        read = []
        for node in nodes:
            images, *others = (
                known.get_tensor_by_name(_tensor(name)) for name in node.input
            )
            read.append([tf.shape(images), *others])
        feed = {
            f"{spec.name}:0": np.zeros([size or 1 for size in spec.shape], np.float32)
            for spec in specs
        }
        return session.run(read, feed)


def _tensor(name):
    return name if ":" in name else f"{name}:0"


def _matrices(node, shape, size, scale=(1, 1), translation=(0, 0)):
    """`(rows, columns)`: what resizing does to each axis, `(new size, old size)`."""
    attributes = {
        name: node.attr[name].s if name == "kernel_type" else node.attr[name].b
        for name in ("kernel_type", "antialias", "half_pixel_centers", "align_corners")
        if name in node.attr
    }
    resize = getattr(tf.raw_ops, node.op)
    matrices = []
    for axis in (0, 1):
        old = int(shape[1 + axis])
        arguments = {"size": [int(size[axis]), 1]}
        if node.op == "ScaleAndTranslate":
            arguments["scale"] = np.array([scale[axis], 1], np.float32)
            arguments["translation"] = np.array([translation[axis], 0], np.float32)
        # One column wide, and a channel for each place: some kernels blur an axis that
        # keeps its size, but none changes what is constant along it.
        unit = np.eye(old, dtype=np.float32)[np.newaxis, :, np.newaxis]
        made = resize(images=unit, **arguments, **attributes)
        matrices.append(made.numpy()[0, :, 0])
    return matrices
