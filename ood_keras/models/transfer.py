"""A network that was trained on other pictures, with a new classifier on top."""

import keras
from keras import layers

from ood_keras.conventions import check_count
from ood_keras.models import backbones, parts
from ood_keras.types import ImageShape, Path


def transfer(
    backbone: str,
    input_shape: ImageShape,
    num_classes: int,
    *,
    weights: Path | None = "imagenet",
    unknown_class: bool = True,
    block: parts.Block = "modified_se",
    filters: int = 128,
    hidden_size: int = 256,
    feature_size: int = 128,
    dropout: float = 0.3,
    feature_temperature: float | None = None,
) -> keras.Model:
    """Builds a classifier on a network of `keras.applications` or of KerasHub.

    Use it for photographs of which there are few. In a row:

        the backbone's own preprocessing, so that images stay in [0, 1];
        the backbone, layer `"backbone"`, and its last map, layer `"map"`;
        a convolution of 1 x 1 pixels to `filters` channels, batch normalisation, ReLU,
        and the block (left out with `block="none"`);
        the mean over the map, a dense hidden layer, `"features"`, `"logits"`

    With pretrained weights the backbone is frozen: train what is on top first, then
    call `unfreeze`, compile again with a lower learning rate and go on. With random
    weights it trains like any other network.

    Args:
        backbone: Name of a network in `keras.applications`, with arguments of its
            builder after a colon: "EfficientNetV2B0", "MobileNetV2:alpha=0.35"; or a
            preset of KerasHub, if that is installed: "keras_hub:resnet_50_imagenet", or
            "keras_hub:FOLDER" that `save_to_preset` wrote. Of a transformer, the
            patches are the map.
        input_shape: `(height, width, channels)` of the images, 1 or 3 channels.
        num_classes: Integer N, the number of known classes: 2 or more, or 1 with
            an unknown class.
        weights: "imagenet", which are downloaded once, or of a preset those that it
            comes with, whatever they were trained on; a local file, `.weights.h5`,
            `.h5` or `.keras`, in which nothing is executed; or `None` for random ones.
        unknown_class: Whether to add the unknown class as the last logit.
        block: "modified_se" (the paper's block), "se" or "none", on the last map.
        filters: Channels of the map that the block is on. Defaults to `128`.
        hidden_size: Units of the dense layer before the features. Defaults to `256`.
        feature_size: Number of features. Defaults to `128`.
        dropout: Fraction in [0, 1) dropped before the hidden layer and before the
            features. Defaults to `0.3`.
        feature_temperature: Where features are scaled to one length in training, one
            over that length, see `ood_keras.layers.TrainTimeNorm`; `None` leaves them
            alone. Defaults to `None`.

    Returns:
        A Functional `keras.Model` from images `(batch, height, width, channels)` in
        [0, 1] to logits `(batch, num_classes + 1)`, or `(batch, num_classes)`.

    Raises:
        ValueError: there is no such network, or KerasHub, which it is of, is missing;
            it does not take such images, the file of weights is of another one, or an
            argument is out of its range.
        ConnectionError: the weights cannot be downloaded.
        FileNotFoundError: there is no such file of weights, or folder of a preset.

    Example:

    >>> import ood_keras
    >>> model = ood_keras.models.transfer(
    ...     "MobileNetV2:alpha=0.35", (96, 96, 3), num_classes=4, weights=None)
    >>> model.get_layer("map").output.shape, model.output_shape
    ((None, 3, 3, 1280), (None, 5))
    """
    input_shape = parts.check_input_shape(input_shape, 1)
    block = parts.check_block(block)
    filters = check_count("filters", filters)
    images = keras.Input(input_shape, name="image")
    network = backbones.build(backbone, input_shape[:2], weights)
    x = backbones.preprocess(images, backbone)
    network.trainable = weights is None
    x = backbones.to_map(network(x), network, input_shape[:2])
    # A layer of its own, so that there is one tensor to cut the model at.
    x = layers.Activation("linear", dtype="float32", name="map")(x)
    if block != "none":
        x = layers.Conv2D(
            filters, 1, use_bias=False, data_format="channels_last", name="projection"
        )(x)
        x = parts.normalized_relu(x, "projected")
        x = parts.add_block(x, block, "block")
    # Four axes still, as images and maps have.
    x = layers.GlobalAveragePooling2D(
        data_format="channels_last", keepdims=True, name="pool"
    )(x)
    x = layers.Flatten(name="flatten")(x)
    logits = parts.classify(
        x,
        num_classes,
        unknown_class=unknown_class,
        hidden_size=hidden_size,
        feature_size=feature_size,
        dropout=dropout,
        feature_temperature=feature_temperature,
    )
    return keras.Model(images, logits, name="transfer")


def unfreeze(model: keras.Model) -> None:
    """Lets the backbone of a `transfer` model train, but for its batch normalisation.

    That keeps the statistics it came with, as is advised for fine-tuning: some batches
    of a few pictures, outliers among them, say less than those it was trained on.
    Compile the model after it.

    Args:
        model: What `transfer` returned; it is changed in place.
    """
    backbone = model.get_layer("backbone")
    backbone.trainable = True
    # Those of KerasHub have some inside of other layers.
    for layer in backbone._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def cut(model: keras.Model, layer: str) -> tuple[keras.Model, keras.Model]:
    """Returns a model in two parts that share its layers: up to a layer, and from it.

    Args:
        model: A Functional model whose layers behind `layer` follow one another, as
            those behind `"map"` and `"pool"` of `transfer` do.
        layer: Name of the layer whose output is where to cut.

    Returns:
        `(first, second)`: from the model's input to the layer's output, and from there
        to the model's output. Training one of them trains `model`.

    Raises:
        ValueError: `model` has no such layer, or those behind it are no chain.

    Example:

    >>> import ood_keras
    >>> model = ood_keras.models.transfer("MobileNet", (64, 64, 3), 4, weights=None)
    >>> backbone, head = ood_keras.models.cut(model, "map")
    >>> backbone.output_shape, head.output_shape
    ((None, 2, 2, 1024), (None, 5))
    """
    before = model.get_layer(layer)
    tensor = before.output
    # Not `keras.Model(tensor, ...)`: its input gets a name that changes with each call.
    x = inputs = keras.Input(tensor.shape[1:], name="features_of_images")
    made = {}
    for behind in model.layers[model.layers.index(before) + 1 :]:
        if behind.input is not before.output:
            raise ValueError(
                f"the layers of {model.name!r} behind {layer!r} must follow one "
                f"another, but {behind.name!r} does not follow {before.name!r}"
            )
        x = made[id(behind.output)] = behind(x)
        before = behind
    outputs = keras.tree.map_structure(lambda output: made[id(output)], model.output)
    return keras.Model(model.inputs[0], tensor), keras.Model(inputs, outputs)
