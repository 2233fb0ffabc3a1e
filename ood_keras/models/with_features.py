"""Makes the features an output, for losses on them."""

import keras


def with_features(
    model: keras.Model, *, logits: str = "logits", features: str = "features"
) -> keras.Model:
    """Returns a model that outputs logits and features, sharing all layers of `model`.

    Use it to train with a loss on the features, such as
    `ood_keras.losses.Objectosphere(on="features")`, beside one on the logits.
    Training the returned model trains `model`, which itself is not changed.

    Args:
        model: A built Functional or Sequential `keras.Model`.
        logits: Name of the layer whose output is the logits. Defaults to `"logits"`.
        features: Name of the layer whose output is the features, the input of the
            classifier. Defaults to `"features"`.

    Returns:
        A `keras.Model` with the inputs of `model` and the outputs
        `{"logits": (batch, num_logits), "features": (batch, feature_size)}`.

    Raises:
        ValueError: `model` has no layer of that name, or no graph of layers: it is
            subclassed, or not built yet.

    Example:

    >>> import keras, ood_keras
    >>> from ood_keras import losses
    >>> model = ood_keras.models.se_alexnet(feature_size=2)
    >>> both = ood_keras.models.with_features(model)
    >>> both.compile(
    ...     keras.optimizers.SGD(0.01),
    ...     loss={
    ...         "logits": losses.WeightedCrossEntropy(num_classes=10),
    ...         "features": losses.Objectosphere(num_classes=10, on="features"),
    ...     },
    ...     loss_weights={"logits": 1.0, "features": 1e-4},
    ... )

    Both losses want the labels, so the targets are
    `{"logits": labels, "features": labels}`.
    """
    try:
        model.inputs[0]
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            "expected a Functional or a built Sequential model, since only these know "
            "the outputs of their layers; start a Sequential model with "
            f"`keras.Input(shape)`. Received: a {type(model).__name__}"
        ) from error
    return keras.Model(
        model.inputs[0] if len(model.inputs) == 1 else model.inputs,
        {
            "logits": _layer(model, "logits", logits).output,
            "features": _layer(model, "features", features).output,
        },
        name=f"{model.name}_with_features",
    )


def _layer(model: keras.Model, argument: str, name: str) -> keras.layers.Layer:
    names = [layer.name for layer in model.layers]
    if name not in names:
        nested = [layer.name for layer in model.layers if hasattr(layer, "layers")]
        hint = f". If it is a layer of {' or '.join(nested)}, pass that model itself"
        raise ValueError(
            f"the model {model.name!r} has no layer named {name!r}; name one with "
            f"`{argument}=`. Its layers: {', '.join(names)}{hint if nested else ''}"
        )
    return model.get_layer(name)
