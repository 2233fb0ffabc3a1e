"""How losses and metrics read integer labels, where every unknown image has -1."""

from keras import ops

from ood_keras.types import Tensor


def split_labels(
    y_true: Tensor, num_classes: int, outputs: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Which images are known, and their classes.

    Args:
        y_true: Labels `(batch,)` or `(batch, 1)` of any number type. Every label other
            than `0..num_classes - 1` counts as unknown: inside a graph a wrong label
            cannot raise an error, and the pipelines check labels before they get here.
        num_classes: Number of known classes.
        outputs: What the model says of the same images, `(batch, ...)`, to be checked
            for their number. `None` checks nothing.

    Returns:
        `(known, labels)`: bool and int32 `(batch,)`.

    Raises:
        ValueError: `y_true` has another shape, or not one label for each of `outputs`.
    """
    y_true = ops.convert_to_tensor(y_true)
    if len(y_true.shape) > 2 or (len(y_true.shape) == 2 and y_true.shape[1] != 1):
        raise ValueError(
            "labels must be integers of shape (batch,) or (batch, 1), with -1 for "
            "unknown images; turn one-hot labels into integers with argmax. Received: "
            f"labels of shape {tuple(y_true.shape)}"
        )
    y_true = ops.reshape(y_true, (-1,))
    if outputs is not None:
        sizes = y_true.shape[0], outputs.shape[0]
        if None not in sizes and sizes[0] != sizes[1]:
            raise ValueError(
                "expected one label per image. Received: "
                f"{sizes[0]} labels and outputs of {sizes[1]} images"
            )
    labels = ops.cast(y_true, "int32")
    known = ops.logical_and(labels >= 0, labels < num_classes)
    # What the cast changes, such as -0.9 or 2**32, is no class.
    return ops.logical_and(
        known, ops.equal(ops.cast(labels, y_true.dtype), y_true)
    ), labels
