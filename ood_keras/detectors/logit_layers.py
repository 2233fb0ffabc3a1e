"""Which layer makes the logits of a model, and what it makes before its softmax."""

from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from ood_keras.types import DType, Outputs, Tensor

# Input and output of each layer that ran, in the order in which they ended.
Calls = dict[keras.layers.Layer, tuple[Any, Any]]

_SOFTMAXES = keras.activations.softmax, keras.activations.log_softmax


def find(
    calls: Calls, output: Tensor, model: keras.Model
) -> tuple[keras.layers.Layer, int]:
    """The layer whose logits are, or whose softmax or sigmoid gives, the output.

    Returns:
        `(layer, number)`: and which of its outputs, in the order of `keras.tree`. The
        layer is `model` itself where the last step is no layer: a product with a
        scale, say.
    """
    normalise = find_normalisation(output)
    # Leaves first: only they show the kernel that feeds the logits. A layer comes
    # before the layers inside of it, which end earlier.
    ran = [layer for layer in reversed(calls) if layer is not model]
    leaves_first = sorted(ran, key=lambda layer: not _is_leaf(layer))
    outputs = (
        (layer, number, made)
        for layer in leaves_first
        for number, made in enumerate(keras.tree.flatten(calls[layer][1]))
    )
    for layer, number, made in outputs:
        inputs = calls[layer][0]
        if not hasattr(made, "shape") or made.shape != output.shape:
            continue
        if is_linear(layer) and _equal(made, output, output.dtype):
            return layer, number
        if normalise is not None:
            activation = find_activation(layer, inputs, made)
            # Sigmoids, too, may sum to 1.
            if activation == "sigmoid" and _equal(made, output, output.dtype):
                return layer, number
            before = made
            if activation == "softmax":
                before = _before_activation(layer, inputs)
            # The logarithm of a softmax gives itself again.
            if normalise is ops.log_softmax and _equal(before, output, output.dtype):
                continue
            # Of large logits in half precision the softmax cannot be computed again.
            if activation == "softmax" and _equal(made, output, output.dtype):
                return layer, number
            made = normalise(_float32(before))
        if _equal(made, output, output.dtype) or (
            normalise is None
            and _equal(ops.sigmoid(_float32(made)), output, output.dtype)
        ):
            return layer, number
    if ran and normalise is None and not _may_be_sigmoids(output):
        made = keras.tree.flatten(calls[model][1])
        return model, next(i for i, each in enumerate(made) if each is output)
    names = ", ".join(layer.name for layer in reversed(ran))
    raise ValueError(
        "could not find the layer that makes the logits: no layer's output is the "
        "model's output, or gives it by a softmax or a sigmoid. Name it with "
        "logits=...; layers that run: "
        f"{names or 'none. Layers inside of a tf.function are not seen'}"
    )


def _may_be_sigmoids(output: Tensor) -> bool:
    values = ops.convert_to_numpy(_float32(output))
    return bool(np.all((values >= 0) & (values <= 1)))


def find_output(output: Any) -> Tensor:
    """The logits or probabilities `(batch, classes)` of a model."""
    found = output
    if isinstance(output, dict):
        found = output.get("logits", output)
    tensors = keras.tree.flatten(found)
    found = tensors[0] if len(tensors) == 1 else None
    if found is None or not hasattr(found, "shape") or len(found.shape) != 2:
        served = isinstance(output, dict) and {"ood_score", "accepted"} <= set(output)
        raise ValueError(
            "the model must have one output, logits or probabilities of shape "
            "(batch, classes), or a dict with such logits under the key 'logits'. "
            f"Received: {_describe(output)}. "
            + (
                "This is the answer of an exported model, which has no logits; take "
                'keras.layers.TFSMLayer(path, call_endpoint="features") of it, or '
                "export.load(path), which has a detector and a threshold already"
                if served
                else "Name the layer that makes the logits with logits=..., or give "
                "the detector a keras.Model of the part that classifies"
            )
        )
    output = found
    check_numbers(output)
    return output


def find_normalisation(tensor: Tensor) -> Callable[[Tensor], Tensor] | None:
    """The function that makes such numbers: softmax, its logarithm, or `None`."""
    values = ops.convert_to_numpy(_float32(tensor))
    if values.shape[-1] == 1:  # The softmax of one number says nothing.
        return None
    if np.all(values >= 0) and np.allclose(values.sum(-1), 1, atol=1e-2):
        return ops.softmax
    if np.all(values <= 0) and np.allclose(np.exp(values).sum(-1), 1, atol=1e-2):
        return ops.log_softmax
    return None


def find_number(layer: keras.layers.Layer, output: Any) -> int:
    """Which of the outputs of a named layer the logits are, in the order of Keras."""
    tensors = keras.tree.flatten(output)
    if isinstance(output, dict) and "logits" in output:
        return next(i for i, each in enumerate(tensors) if each is output["logits"])
    only_tensor(layer, output)
    return 0


def only_tensor(layer: keras.layers.Layer, output: Any) -> Tensor:
    """Returns the tensor of a layer with one output; raises a ValueError for more."""
    tensors = keras.tree.flatten(output)
    if len(tensors) != 1:
        raise ValueError(
            f"layer {layer.name!r} has {len(tensors)} outputs: {_describe(output)}. "
            "Name a layer with one output, or one that gives a dict with logits"
        )
    return tensors[0]


def _describe(output: Any) -> str:
    """The shapes of outputs, as text."""
    return str(keras.tree.map_structure(lambda each: tuple(each.shape), output))


def find_classifier(
    calls: Calls, logits: keras.layers.Layer, model: keras.Model
) -> keras.layers.Layer:
    """The last layer with weights up to `logits`: its input are the features."""
    ran = [layer for layer in calls if _is_leaf(layer) and layer is not model]
    if logits is not model:
        if logits not in ran:
            return logits
        ran = ran[: ran.index(logits) + 1]
    return next((layer for layer in reversed(ran) if layer.weights), logits)


def _is_leaf(layer: keras.layers.Layer) -> bool:
    """Whether nothing inside of `layer` is looked at: an activation may be a layer."""
    parts = layer._flatten_layers(include_self=False)
    return has_kernel(layer) or not parts or not layer.weights


def has_kernel(layer: keras.layers.Layer) -> bool:
    """Whether a layer multiplies by a kernel: a convolution, say, or `Dense`."""
    return getattr(layer, "kernel", None) is not None


def is_linear(layer: keras.layers.Layer) -> bool:
    """Whether a layer gives products with its kernel, and no function of them.

    Such numbers are logits, even if by chance they sum to 1 as probabilities do.
    """
    # A subclass may do something else.
    known = type(layer) in (keras.layers.Dense, keras.layers.Conv2D)
    return known and layer.activation is keras.activations.linear


def compute(
    layer: keras.layers.Layer, inputs: Any, output: Tensor, undo_activation: bool
) -> Tensor:
    """What `layer` makes, float32; before its activation, if that is to be undone.

    One number, whose sigmoid is the probability of the second of two classes, becomes
    two logits: a softmax of `[0, z]` gives the same probability.
    """
    made = _before_activation(layer, inputs) if undo_activation else output
    return two_classes_of_one(_float32(made))


def two_classes_of_one(tensor: Tensor) -> Tensor:
    """`[0, z]` on the last axis for `[z]`; other tensors as they are."""
    if tensor.shape[-1] != 1:
        return tensor
    return ops.concatenate([ops.zeros_like(tensor), tensor], axis=-1)


def find_activation(
    layer: keras.layers.Layer, inputs: Any, output: Tensor
) -> Literal["softmax", "sigmoid"] | None:
    """What `layer` ends in, if its output is a softmax or a sigmoid of something.

    The logarithm of a softmax counts as one.
    """
    if is_linear(layer):
        return None
    # A subclass may do something else.
    if type(layer) is keras.layers.Softmax:
        return "softmax"
    if type(layer) in (keras.layers.Activation, keras.layers.Dense):
        if layer.activation in _SOFTMAXES:
            return "softmax"
        if layer.activation is keras.activations.sigmoid:
            return "sigmoid"
    # Other functions are known by what they do: `tf.nn.softmax`, say, or a `Lambda`.
    before = _before_activation(layer, inputs)
    if before is None or before.shape != output.shape:
        return None
    is_softmax = output.shape[-1] > 1 and any(
        _equal(function(before), output, output.dtype)
        for function in (ops.softmax, ops.log_softmax)
    )
    is_sigmoid = _equal(ops.sigmoid(before), output, output.dtype)
    if is_softmax and is_sigmoid:
        # Of numbers so large that one class has all of it, both are 1 and 0.
        function = layer.activation if isinstance(layer, keras.layers.Dense) else layer
        small = ops.linspace(-1.0, 1.0, output.shape[-1])[None]
        is_sigmoid = _equal(ops.sigmoid(small), function(small), output.dtype)
        is_softmax = not is_sigmoid
    return "softmax" if is_softmax else "sigmoid" if is_sigmoid else None


def _before_activation(layer, inputs):
    if isinstance(layer, keras.layers.Dense):
        if layer.quantization_mode is not None:
            return _float32(_without_activation(layer).quantized_call(inputs))
        kernel, bias = kernel_and_bias(layer)
        return ops.matmul(_float32(inputs), kernel) + bias
    return _float32(inputs) if hasattr(inputs, "shape") else None


def _without_activation(layer):
    """A twin of a quantised layer, with its weights and the way it scales them."""
    twin = object.__new__(type(layer))
    vars(twin).update(vars(layer), activation=None)
    return twin


def kernel_and_bias(layer: keras.layers.Layer) -> tuple[Tensor, Tensor]:
    """Of a `Dense` layer, or of a convolution of 1 x 1 pixels."""
    kernel = ops.reshape(_float32(layer.kernel), layer.kernel.shape[-2:])
    if layer.use_bias:
        return kernel, _float32(layer.bias)
    return kernel, ops.zeros((kernel.shape[-1],), "float32")


def head(layer: keras.layers.Layer) -> tuple[Tensor, Tensor]:
    """The kernel and bias that make the logits; of two classes if it has one unit."""
    kernel, bias = kernel_and_bias(layer)
    return two_classes_of_one(kernel), two_classes_of_one(bias)


def feeds_head(
    classifier: keras.layers.Layer, own_output: Any, outputs: Outputs
) -> bool:
    """Whether the kernel and bias of `classifier` make the logits of the features."""
    if isinstance(classifier, keras.layers.Conv2D):
        if tuple(classifier.kernel_size) != (1, 1):
            return False
    elif not isinstance(classifier, keras.layers.Dense):
        return False
    kernel, bias = head(classifier)
    if outputs["features"].shape[-1] != kernel.shape[0]:
        return False
    logits = ops.matmul(outputs["features"], kernel) + bias
    # It may round more than what follows it, under mixed precision.
    return _equal(logits, outputs["logits"], own_output.dtype)


def check_numbers(tensor: Tensor) -> None:
    """Raises a ValueError if a model gave NaN."""
    if np.any(np.isnan(ops.convert_to_numpy(_float32(tensor)))):
        raise ValueError(
            "the model gives NaN for images in [0, 1]. Look for weights that diverged, "
            "then train again with a lower learning rate or take an earlier checkpoint"
        )


def _equal(left: Tensor, right: Tensor, dtype: DType) -> bool:
    """Whether two results of the same formula agree as far as `dtype` allows."""
    left = ops.convert_to_numpy(ops.cast(left, "float32"))
    right = ops.convert_to_numpy(ops.cast(right, "float32"))
    if left.shape != right.shape:
        return False
    tolerance = 1e-4 if keras.backend.standardize_dtype(dtype) == "float32" else 2e-2
    scale = max(np.max(np.abs(right)), 1e-30)
    return np.allclose(left, right, rtol=0, atol=tolerance * scale)


def _float32(tensor: Tensor) -> Tensor:
    return ops.cast(tensor, "float32")
