"""A Keras model seen as a function from images to logits and features."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ood_keras import batches
from ood_keras.detectors import listening, logit_layers
from ood_keras.detectors.compiled import compile_function, run_in_parts
from ood_keras.detectors.guest import Guest, find_guest
from ood_keras.detectors.recording import Recording
from ood_keras.types import Images, ImageShape, Names, Outputs, Tensor


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
        num_units: How many numbers the network gives for them: 1 for two classes, or K.
        activation: "softmax" or "sigmoid" if the layer that makes the logits ends in
            one, which is undone; else `None`.
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
        self._recording: Recording | None = None
        self.sample = images = ops.convert_to_tensor(_sample(model, sample))
        self._logits_name = logits
        self.image_shape = tuple(images.shape[1:])
        # The first call builds an unbuilt model, so that its layers can be listed.
        listening.run(model, images)
        self._layers = listening.name_layers(model)
        calls, output = listening.listen(model, set(self._layers.values()), images)
        # Of a layer with several outputs, logits are the one with this number.
        if logits is None:
            self._logits, self._number = logit_layers.find(
                calls, logit_layers.find_output(output), model
            )
        else:
            self._logits = self._find_executed(logits, calls, "logits")
            self._number = logit_layers.find_number(
                self._logits, calls[self._logits][1]
            )
        self.activation = logit_layers.find_activation(
            self._logits, *self._call_of_logits(calls)
        )
        self._classifier = logit_layers.find_classifier(calls, self._logits, model)
        self._features = None
        if features is not None:
            self._features = self._find_executed(features, calls, "features")
        self._check_sealed(calls)
        outputs = self(images)
        logit_layers.check_numbers(outputs["logits"])
        if len(outputs["logits"].shape) != 2:
            raise ValueError(
                f"logits must have the shape (batch, classes); layer {logits!r} gives "
                f"{tuple(outputs['logits'].shape)}"
            )
        self.num_units = int(self._call_of_logits(calls)[1].shape[-1])
        if (
            self.activation != "sigmoid"
            and self.num_units > 1
            and not logit_layers.is_linear(self._logits)
            and logit_layers.find_normalisation(outputs["logits"]) is not None
        ):
            raise ValueError(
                f"layer {self._logits.name!r} gives probabilities, or their "
                "logarithms, which the logits cannot be recovered from. Name a layer "
                "that gives logits, or whose activation is a softmax, with logits=..."
            )
        self.num_logits = int(outputs["logits"].shape[1])
        self.feature_size = int(outputs["features"].shape[1])
        self._features_feed_head = logit_layers.feeds_head(
            self._classifier, calls[self._classifier][1], outputs
        )
        names = {layer: name for name, layer in self._layers.items()}
        before = list(calls)[: list(calls).index(self._classifier)]
        self.inner_layers = [
            names[layer] for layer in before if logit_layers.has_kernel(layer)
        ]

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
        ends = {self._logits, self._classifier, self._features} - {None, self.model}
        calls, _ = listening.listen(self.model, ends | set(wanted.values()), images)
        for name, layer in wanted.items():
            if layer not in calls:
                raise ValueError(
                    f"layer {name!r} does not run when the model does; choose another"
                )
        logits = logit_layers.compute(
            self._logits,
            *self._call_of_logits(calls),
            self.activation is not None,
        )
        outputs = {"logits": logits, "features": self._features_in(calls, logits)}
        if wanted:
            outputs["layers"] = {
                name: ops.cast(
                    logit_layers.only_tensor(layer, calls[layer][1]), "float32"
                )
                for name, layer in wanted.items()
            }
        return outputs

    def _call_of_logits(self, calls: dict) -> tuple[Any, Any]:
        """Input and output of the layer that makes the logits."""
        inputs, output = calls[self._logits]
        return inputs, keras.tree.flatten(output)[self._number]

    def _features_in(self, calls, logits):
        if self._features is not None:
            return pool(
                logit_layers.only_tensor(self._features, calls[self._features][1])
            )
        inputs, output = calls[self._classifier]
        if isinstance(output, dict) and "features" in output:
            return pool(output["features"])
        return logits if _is_sealed(self._classifier) else pool(inputs)

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
        pooled: bool = False,
    ) -> Iterator[tuple[Any, np.ndarray | None]]:
        """Yields `(outputs, labels)`, NumPy, batch by batch, running compiled.

        Args:
            data: Images or images with labels, as `ood_keras.batches.iterate` takes.
            batch_size: Rows per batch for arrays.
            layers: As for a call.
            read: What to yield of the outputs, a function of tensors that becomes part
                of the graph; `None` yields them as they are.
            pooled: Whether `read` looks at the means of the layers over their positions
                only, `pool`, so that these may be what it is given.
        """
        guest = find_guest(data)
        if guest is not None:
            yield from guest.batches(layers, read)
            return
        recording = self.recorded(data, layers, pooled)
        if recording is not None:
            yield from recording.replay(read, layers)
            return
        key = (tuple(layers), read)
        if key not in self._compiled:
            self._compiled[key] = compile_function(
                lambda images: _read_of(self(images, layers), read)
            )
        for images, labels in batches.iterate(data, batch_size):
            if len(images):
                yield run_in_parts(self._compiled[key], images), labels

    def recorded(
        self, data: Images, layers: Names = (), pooled: bool = False
    ) -> Recording | None:
        """What `record` keeps of `data`, if `batches` need no more than that."""
        recording = self._recording
        if recording is None or recording.data is not data:
            return None
        if layers and not (pooled and recording.layers.issuperset(layers)):
            return None
        return recording

    @contextlib.contextmanager
    def record(
        self, data: Images, layers: Names = (), guests: Sequence[Guest] = ()
    ) -> Iterator[None]:
        """Keeps logits and features of `data` from one pass, for many readers.

        Within the context, `batches(data)` without layers, or of the means of `layers`,
        reads what was kept, in temporary files, so that memory does not grow with the
        images. Others that need more, such as whole maps, take part in the pass.

        Args:
            data: Images or images with labels, as `ood_keras.batches.iterate` takes;
                the same object that `batches` will be given.
            layers: Names of inner layers whose means over their positions are kept too.
            guests: Those that take part.
        """
        try:
            recording = Recording(data, self._lead(data, sorted(layers), guests))
        except BaseException as error:
            for guest in guests:
                guest.finish(error)
            raise
        with recording:
            self._recording = recording
            try:
                for guest in guests:
                    guest.finish()
                yield
            finally:
                self._recording = None

    def _lead(self, data, layers, guests):
        """Yields what is kept of each batch, and gives guests what they want of it."""
        wishes = [(guest, guest.start()) for guest in guests]
        wishes = [(guest, wish) for guest, wish in wishes if wish is not None]
        names = sorted({*layers, *(name for _, wish in wishes for name in wish[0])})
        errors = {}

        def show(outputs, guest, wish):
            wanted, read = wish
            try:
                return _read_of(_with_layers(outputs, wanted), read)
            except Exception as error:
                # That of this guest alone.
                errors[guest] = error
                return ()

        def run(images):
            outputs = self(images, names)
            kept = _with_layers(outputs, layers)
            if layers:
                kept["layers"] = keras.tree.map_structure(pool, kept["layers"])
            return kept, [show(outputs, *each) for each in wishes]

        run = compile_function(run)
        for images, labels in batches.iterate(data):
            if not len(images):
                continue
            kept, shown = run_in_parts(run, images)
            for (guest, _), rows in zip(wishes, shown, strict=True):
                if guest in errors:
                    guest.finish(errors[guest])
                guest.give(rows, labels)
            yield kept, labels

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
        return logit_layers.head(self._classifier)

    def layer(self, name: str) -> keras.layers.Layer:
        """The layer with this name or path; an unknown name lists the known ones."""
        if name not in self._layers:
            raise ValueError(
                f"the model has no layer {name!r} (or more than one, and then its path "
                f"is needed). Expected one of: {', '.join(self._layers)}"
            )
        return self._layers[name]

    def _find_executed(self, name, calls, argument):
        layer = self.layer(name)
        if layer not in calls:
            raise ValueError(
                f"{argument}={name!r} does not run when the model does; layers that "
                f"do: {', '.join(one.name for one in calls if one is not self.model)}"
            )
        return layer


def _is_sealed(layer: keras.layers.Layer) -> bool:
    """Whether a layer with weights hides what is inside of it."""
    return isinstance(layer, keras.layers.TFSMLayer)


def _with_layers(outputs: Outputs, names: Names) -> Any:
    """The outputs with some of their inner layers, or without any."""
    kept: Any = {name: outputs[name] for name in ("logits", "features")}
    if names:
        kept["layers"] = {name: outputs["layers"][name] for name in names}
    return kept


def _read_of(outputs: Outputs, read: Callable[[Outputs], Any] | None) -> Any:
    return outputs if read is None else read(outputs)


def pool(tensor: Tensor) -> Tensor:
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
