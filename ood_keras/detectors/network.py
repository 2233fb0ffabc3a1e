"""A Keras model seen as a function from images to logits and features."""

import collections
import contextlib
import itertools
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from ood_keras import batches
from ood_keras.detectors.compiled import compiled
from ood_keras.types import DType, Images, ImageShape, Names, Outputs, Tensor

_listening = threading.RLock()


class Network:
    """Reads logits, features and inner layers from any Keras model, leaving it as is.

    The model may be Functional, Sequential, subclassed or nested, with a softmax head
    or without. The layers are listened to while the model runs: none is added, replaced
    or called a second time, so nothing of the model changes.

    Logits are found by what they are: the output of a layer that is the model's output,
    or whose softmax is. A softmax, or its logarithm, is undone exactly, whatever
    function makes it: a `Dense` layer is applied without the activation, or the input
    of a layer that is a softmax is taken; logits are never recovered from rounded
    probabilities. Features are the input of the last layer with weights, normally the
    `Dense` layer that makes the logits.

    If that layer gives a dict with `features`, these are the features. A
    `keras.layers.TFSMLayer` shows nothing of its inside: of an exported model, take
    `call_endpoint="features"`, which gives such a dict; with another, there is a
    warning, and the logits stand in for the features.

    Args:
        model: A `keras.Model` with one image input and one output, a dict of outputs
            with the key `logits`, or any outputs if `logits` names the layer.
        logits: Name or path of the layer that makes the logits; `None` finds it.
        features: Name or path of the layer whose output the features are; `None` takes
            the input of the classifying layer.
        sample: Float images `(n, height, width, channels)` to try the model on; needed
            only where the model does not know its input shape.

    Attributes:
        num_logits: K.
        feature_size: D.
        image_shape: `(height, width, channels)` of the images it was tried on.
        sample: These images, a float32 tensor.
        layer_names: What `layers` of a call may name.
        inner_layers: Names of the layers with a kernel (convolutions, Dense layers)
            that run before the classifying one, in order.
        variables: The model's variables, for exporters.

    Raises:
        TypeError: `model` is not a `keras.Model`.
        ValueError: logits or features are not where they were said to be, or could not
            be found; the error says which argument to give.

    Example:

    >>> network = Network(model)
    >>> outputs = network(images)
    >>> outputs["logits"].shape, outputs["features"].shape
    ((32, 10), (32, 128))
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        logits: str | None = None,
        features: str | None = None,
        sample: Tensor | None = None,
    ) -> None:
        check_model(model)
        self.model = model
        self._compiled: dict[tuple, Callable] = {}
        self.sample = images = ops.convert_to_tensor(_sample(model, sample))
        self._logits_name = logits
        self.image_shape = tuple(images.shape[1:])
        # The first call builds an unbuilt model, so that its layers can be listed.
        _run(model, images)
        self._layers = _by_name(model)
        calls, output = _listen(model, set(self._layers.values()), images)
        # Of a layer with several outputs, logits are the one with this number.
        if logits is None:
            self._logits, self._number = _find_logits(calls, _only_output(output))
        else:
            self._logits = self._executed(logits, calls, "logits")
            _check_no_sigmoid(self._logits)
            self._number = _number_of_logits(self._logits, calls[self._logits][1])
        self._undo_softmax = _is_softmax(self._logits, *self._call_of_logits(calls))
        self._classifier = _last_with_weights(calls, self._logits)
        self._features = None
        if features is not None:
            self._features = self._executed(features, calls, "features")
        self._check_sealed(calls)
        outputs = self(images)
        _check_numbers(outputs["logits"])
        if len(outputs["logits"].shape) != 2:
            raise ValueError(
                f"logits must have the shape (batch, classes); layer {logits!r} gives "
                f"{tuple(outputs['logits'].shape)}"
            )
        if _normalisation(outputs["logits"]) is not None:
            raise ValueError(
                f"layer {self._logits.name!r} gives probabilities, or their "
                "logarithms, which the logits cannot be recovered from. Name a layer "
                "that gives logits, or whose activation is a softmax, with logits=..."
            )
        self.num_logits = int(outputs["logits"].shape[1])
        self.feature_size = int(outputs["features"].shape[1])
        self._features_feed_head = _feed_head(
            self._classifier, calls[self._classifier][1], outputs
        )
        names = {layer: name for name, layer in self._layers.items()}
        before = list(calls)[: list(calls).index(self._classifier)]
        self.inner_layers = [names[layer] for layer in before if _has_kernel(layer)]

    def __call__(self, images: Tensor, layers: Names = ()) -> Outputs:
        """Runs the model once, in inference mode; works in eager mode and in a graph.

        Args:
            images: Float tensor `(batch, height, width, channels)` in [0, 1].
            layers: Names of layers whose outputs are wanted too.

        Returns:
            A dict of float32 tensors: `logits` `(batch, K)`; `features` `(batch, D)`,
            averaged over spatial axes if there are any; and, if `layers` are given,
            `layers`: a dict from name to that layer's output, in its own shape.
        """
        self._check_channels(images)
        wanted = {name: self.layer(name) for name in layers}
        ends = {self._logits, self._classifier, self._features} - {None}
        calls, _ = _listen(self.model, ends | set(wanted.values()), images)
        for name, layer in wanted.items():
            if layer not in calls:
                raise ValueError(
                    f"layer {name!r} does not run when the model does; choose another"
                )
        logits = _logits_of(
            self._logits, *self._call_of_logits(calls), self._undo_softmax
        )
        outputs = {"logits": logits, "features": self._features_in(calls, logits)}
        if wanted:
            outputs["layers"] = {
                name: ops.cast(_only_tensor(layer, calls[layer][1]), "float32")
                for name, layer in wanted.items()
            }
        return outputs

    def _call_of_logits(self, calls: dict) -> tuple[Any, Any]:
        """Input and output of the layer that makes the logits."""
        inputs, output = calls[self._logits]
        return inputs, keras.tree.flatten(output)[self._number]

    def _features_in(self, calls, logits):
        if self._features is not None:
            return pooled(_only_tensor(self._features, calls[self._features][1]))
        inputs, output = calls[self._classifier]
        if isinstance(output, dict) and "features" in output:
            return pooled(output["features"])
        return logits if _is_sealed(self._classifier) else pooled(inputs)

    def _check_sealed(self, calls):
        output = calls[self._classifier][1]
        has_features = isinstance(output, dict) and "features" in output
        if self._features is None and _is_sealed(self._classifier) and not has_features:
            warnings.warn(
                f"layer {self._classifier.name!r} shows nothing of its inside, so the "
                "logits stand in for the features; detectors that learn from features "
                "will be poor. Of an exported model, take "
                'TFSMLayer(path, call_endpoint="features"), which gives both',
                stacklevel=4,
            )

    def batches(
        self,
        data: Images,
        batch_size: int = 256,
        layers: Names = (),
        read: Callable[[Outputs], Any] | None = None,
    ) -> Iterator[tuple[Any, np.ndarray | None]]:
        """Yields `(outputs, labels)`, NumPy, batch by batch, running compiled.

        Args:
            data: Images or images with labels, as `ood_keras.batches.iterate` takes.
            batch_size: Rows per batch for arrays.
            layers: As for a call.
            read: What to yield of the outputs, a function of tensors that becomes part
                of the graph; `None` yields them as they are.
        """
        key = (tuple(layers), read)
        if key not in self._compiled:
            self._compiled[key] = compiled(
                lambda images: (read or (lambda outputs: outputs))(self(images, layers))
            )
        for images, labels in batches.iterate(data, batch_size):
            if len(images):
                yield self._compiled[key](images), labels

    def with_features(self, features: str) -> "Network":
        """The same network with the output of another layer, by name, as features."""
        return Network(
            self.model,
            logits=self._logits_name,
            features=features,
            sample=self.sample,
        )

    @property
    def variables(self) -> list[Any]:
        return self.model.variables

    @property
    def layer_names(self) -> list[str]:
        return list(self._layers)

    @property
    def head(self) -> tuple[np.ndarray, np.ndarray]:
        """Float32 arrays `kernel (D, K)` and `bias (K,)` that make the logits.

        Raises:
            ValueError: the features do not feed a `Dense` layer, or a convolution of
                1 x 1 pixels, that makes the logits.
        """
        return tuple(map(ops.convert_to_numpy, self._head()))

    def classify(self, features: Tensor) -> Tensor:
        """The logits `(batch, K)` that the head makes of other features `(batch, D)`.

        Raises:
            ValueError: as for `head`.
        """
        kernel, bias = self._head()
        return ops.matmul(features, kernel) + bias

    def _check_channels(self, images: Tensor) -> None:
        # Height and width may be free.
        expected, received = self.image_shape[-1], images.shape[-1]
        if received not in (None, expected):
            raise ValueError(
                f"the model takes images of shape (batch, height, width, {expected}). "
                f"Received: images with {received} channels. Convert them to what the "
                "model was trained on"
            )

    def _head(self) -> tuple[Tensor, Tensor]:
        if not self._features_feed_head:
            raise ValueError(
                "this detector needs a model that ends in a Dense layer, or a "
                "convolution of 1 x 1 pixels, not quantised, and the input of that "
                "layer as features: leave `features` and `logits` out, or name such "
                f"layers. The logits are made by {self._logits.name!r} (a "
                f"{type(self._logits).__name__})"
            )
        return _kernel_and_bias(self._classifier)

    def layer(self, name: str) -> keras.layers.Layer:
        """The layer with this name or path; an unknown name lists the known ones."""
        if name not in self._layers:
            raise ValueError(
                f"the model has no layer {name!r} (or more than one, and then its path "
                f"is needed). Expected one of: {', '.join(self._layers)}"
            )
        return self._layers[name]

    def _executed(self, name, calls, argument):
        layer = self.layer(name)
        if layer not in calls:
            raise ValueError(
                f"{argument}={name!r} does not run when the model does; layers that "
                f"do: {', '.join(layer.name for layer in calls)}"
            )
        return layer


def _is_sealed(layer: keras.layers.Layer) -> bool:
    """Whether a layer with weights hides what is inside of it."""
    return isinstance(layer, keras.layers.TFSMLayer)


def _number_of_logits(layer: keras.layers.Layer, output: Any) -> int:
    """Which of the outputs of a named layer the logits are, in the order of Keras."""
    tensors = keras.tree.flatten(output)
    if isinstance(output, dict) and "logits" in output:
        return next(i for i, each in enumerate(tensors) if each is output["logits"])
    _only_tensor(layer, output)
    return 0


def _only_tensor(layer: keras.layers.Layer, output: Any) -> Tensor:
    tensors = keras.tree.flatten(output)
    if len(tensors) != 1:
        raise ValueError(
            f"layer {layer.name!r} has {len(tensors)} outputs: {_described(output)}. "
            "Name a layer with one output, or one that gives a dict with logits"
        )
    return tensors[0]


def _described(output: Any) -> str:
    """The shapes of outputs, as text."""
    return str(keras.tree.map_structure(lambda each: tuple(each.shape), output))


def pooled(tensor: Tensor) -> Tensor:
    """`tensor` as float32 `(batch, channels)`, averaged over the axes in between."""
    tensor = ops.cast(tensor, "float32")
    middle = tuple(range(1, len(tensor.shape) - 1))
    return ops.mean(tensor, axis=middle) if middle else tensor


def check_model(model: Any) -> None:
    """Raises a TypeError unless `model` is a `keras.Model`."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a keras.Model. Received: an object of type "
            f"{type(model).__name__}"
        )


def image_shape(model: keras.Model) -> ImageShape | None:
    """`(height, width, channels)` that a model takes, or `None` if it does not say."""
    # Functional and Sequential models know their input; others what they were built on.
    shape: Any = getattr(model, "input_shape", None)
    if shape is None:
        shape = (model.get_build_config() or {}).get("input_shape")
    try:
        known = len(shape) == 4 and all(size > 0 for size in shape[1:])
    except TypeError:
        known = False
    return tuple(shape[1:]) if known else None


def _sample(model: keras.Model, sample: Tensor | None) -> np.ndarray:
    """Two images to try the model on."""
    if sample is not None:
        return np.asarray(sample, np.float32)[:2]
    shape = image_shape(model)
    if shape is None:
        raise ValueError(
            "the model does not say what images it takes, (height, width, channels). "
            "Give `fit` some data, or call the model on an image first"
        )
    return np.random.default_rng(0).uniform(size=(2, *shape)).astype(np.float32)


def _by_name(model):
    """Layers by name; nested layers by path where several have the same name.

    The model's own layers keep their names. A layer without weights may have no path;
    then its name gets a number.
    """
    layers = model._flatten_layers(include_self=False)
    own = {id(layer) for layer in model.layers}
    count = collections.Counter(layer.name for layer in layers)
    count_own = collections.Counter(layer.name for layer in model.layers)
    found = {}
    for layer in layers:
        is_own = id(layer) in own and count_own[layer.name] == 1
        name = layer.name if is_own or count[layer.name] == 1 else layer.path
        if name is None:
            numbers = itertools.count(1)
            name = next(
                numbered
                for numbered in (f"{layer.name}:{number}" for number in numbers)
                if numbered not in found
            )
        found[name] = layer
    return found


def _listen(model, layers, images):
    """Runs the model; returns `{layer: (input, output)}` in order, and its output."""
    calls, here = {}, threading.get_ident()

    def listener(layer, call):
        def listening(*args, **kwargs):
            output = call(*args, **kwargs)
            # The user may run the model in another thread meanwhile.
            if threading.get_ident() != here:
                return output
            calls.pop(layer, None)
            calls[layer] = (args[0] if args else next(iter(kwargs.values())), output)
            return output

        return listening

    # Keras looks the method up on the instance, so an entry in the instance's
    # dictionary is heard, and removing it leaves the layer as it was.
    with _listening, contextlib.ExitStack() as restore:
        for layer in layers:
            quantized = getattr(layer, "quantization_mode", None) is not None
            method = "quantized_call" if quantized else "call"
            own = vars(layer).get(method)
            vars(layer)[method] = listener(layer, getattr(layer, method))
            if own is None:
                restore.callback(vars(layer).pop, method)
            else:
                restore.callback(vars(layer).__setitem__, method, own)
        output = model(images, training=False)
    return calls, output


def _run(model: keras.Model, images: Tensor) -> Any:
    try:
        return model(images, training=False)
    except Exception as error:
        raise ValueError(
            "the model cannot be run on images of the shape (batch, height, width, "
            f"channels) = {tuple(images.shape)}. Expected a model with one input, "
            f"images of that shape. Keras says: {error}"
        ) from error


def _logits_of(layer, inputs, output, undo_softmax):
    """What `layer` makes, float32; before its softmax, if that is to be undone."""
    return _before_activation(layer, inputs) if undo_softmax else _float32(output)


def _is_softmax(layer, inputs, output):
    """Whether `output` is a softmax of what `layer` makes before its activation.

    The logarithm of a softmax counts as one.
    """
    # A subclass may do something else.
    if type(layer) is keras.layers.Softmax or (
        type(layer) in (keras.layers.Activation, keras.layers.Dense)
        and layer.activation in _SOFTMAXES
    ):
        return True
    # Other functions are known by what they do: `tf.nn.softmax`, say, or a `Lambda`.
    before = _before_activation(layer, inputs)
    if before is None or before.shape != output.shape:
        return False
    return any(
        _equal(function(before), output, output.dtype)
        for function in (ops.softmax, ops.log_softmax)
    )


_SOFTMAXES = keras.activations.softmax, keras.activations.log_softmax


def _before_activation(layer, inputs):
    if isinstance(layer, keras.layers.Dense):
        if layer.quantization_mode is not None:
            return _float32(_without_activation(layer).quantized_call(inputs))
        kernel, bias = _kernel_and_bias(layer)
        return ops.matmul(_float32(inputs), kernel) + bias
    return _float32(inputs) if hasattr(inputs, "shape") else None


def _without_activation(layer):
    """A twin of a quantised layer, with its weights and the way it scales them."""
    twin = object.__new__(type(layer))
    vars(twin).update(vars(layer), activation=None)
    return twin


def _float32(tensor: Tensor) -> Tensor:
    return ops.cast(tensor, "float32")


def _kernel_and_bias(layer: keras.layers.Layer) -> tuple[Tensor, Tensor]:
    """Of a `Dense` layer, or of a convolution of 1 x 1 pixels."""
    kernel = ops.reshape(_float32(layer.kernel), layer.kernel.shape[-2:])
    if layer.use_bias:
        return kernel, _float32(layer.bias)
    return kernel, ops.zeros((kernel.shape[-1],), "float32")


def _feed_head(classifier, own_output, outputs):
    """Whether the kernel and bias of `classifier` make the logits of the features."""
    if isinstance(classifier, keras.layers.Conv2D):
        if tuple(classifier.kernel_size) != (1, 1):
            return False
    elif not isinstance(classifier, keras.layers.Dense):
        return False
    kernel, bias = _kernel_and_bias(classifier)
    if outputs["features"].shape[-1] != kernel.shape[0]:
        return False
    logits = ops.matmul(outputs["features"], kernel) + bias
    # It may round more than what follows it, under mixed precision.
    return _equal(logits, outputs["logits"], own_output.dtype)


def _has_kernel(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "kernel", None) is not None


def _is_leaf(layer: keras.layers.Layer) -> bool:
    """Whether nothing inside of `layer` is looked at: an activation may be a layer."""
    parts = layer._flatten_layers(include_self=False)
    return _has_kernel(layer) or not parts or not layer.weights


def _check_numbers(tensor: Tensor) -> None:
    if np.any(np.isnan(ops.convert_to_numpy(_float32(tensor)))):
        raise ValueError(
            "the model gives NaN for images in [0, 1]. Look for weights that diverged, "
            "then train again with a lower learning rate or take an earlier checkpoint"
        )


def _only_output(output):
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
            f"Received: {_described(output)}. "
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
    _check_numbers(output)
    return output


def _normalisation(tensor):
    """The function that makes such numbers: softmax, its logarithm, or `None`."""
    values = ops.convert_to_numpy(_float32(tensor))
    if np.all(values >= 0) and np.allclose(values.sum(-1), 1, atol=1e-2):
        return ops.softmax
    if np.all(values <= 0) and np.allclose(np.exp(values).sum(-1), 1, atol=1e-2):
        return ops.log_softmax
    return None


def _find_logits(calls, output):
    """The layer whose logits are, or whose softmax gives, the model's output.

    Returns:
        `(layer, number)`: and which of its outputs, in the order of `keras.tree`.
    """
    normalise = _normalisation(output)
    # Leaves first: only they show the kernel that feeds the logits. A layer comes
    # before the layers inside of it, which end earlier.
    leaves_first = sorted(reversed(calls), key=lambda layer: not _is_leaf(layer))
    outputs = (
        (layer, number, made)
        for layer in leaves_first
        for number, made in enumerate(keras.tree.flatten(calls[layer][1]))
    )
    for layer, number, made in outputs:
        inputs = calls[layer][0]
        if not hasattr(made, "shape") or made.shape != output.shape:
            continue
        if normalise is not None:
            if _is_softmax(layer, inputs, made):
                made = _before_activation(layer, inputs)
            # The logarithm of a softmax gives itself again.
            if normalise is ops.log_softmax and _equal(made, output, output.dtype):
                continue
            made = normalise(_float32(made))
        if _equal(made, output, output.dtype):
            _check_no_sigmoid(layer)
            return layer, number
    names = ", ".join(layer.name for layer in calls)
    raise ValueError(
        "could not find the layer that makes the logits: no layer's output is the "
        "model's output, or gives it by a softmax. Name it with logits=...; layers "
        f"that run: {names or 'none. Layers inside of a tf.function are not seen'}"
    )


def _check_no_sigmoid(layer: keras.layers.Layer) -> None:
    if getattr(layer, "activation", None) is keras.activations.sigmoid:
        raise ValueError(
            f"layer {layer.name!r} ends in a sigmoid, but scores are of a softmax over "
            "the classes. Train with one logit per class, two where there are two "
            "classes, and no activation or a softmax; or name a layer that gives such "
            "logits with logits=..."
        )


def _last_with_weights(calls, logits):
    """The last layer with weights up to `logits`: its input are the features."""
    ran = [layer for layer in calls if _is_leaf(layer)]
    if logits not in ran:
        return logits
    ran = ran[: ran.index(logits) + 1]
    return next((layer for layer in reversed(ran) if layer.weights), logits)


def _equal(left: Tensor, right: Tensor, dtype: DType) -> bool:
    """Whether two results of the same formula agree as far as `dtype` allows."""
    left = ops.convert_to_numpy(ops.cast(left, "float32"))
    right = ops.convert_to_numpy(ops.cast(right, "float32"))
    if left.shape != right.shape:
        return False
    tolerance = 1e-4 if keras.backend.standardize_dtype(dtype) == "float32" else 2e-2
    scale = max(np.max(np.abs(right)), 1e-30)
    return np.allclose(left, right, rtol=0, atol=tolerance * scale)
