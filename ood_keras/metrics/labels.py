"""How losses and metrics read integer labels, where every unknown image has -1."""

from keras import ops


def split_labels(y_true, num_classes):
    """Which images are known, and their classes.

    Args:
        y_true: Labels `(batch,)` or `(batch, 1)` of any number type. Every label
            outside `0..num_classes - 1` counts as unknown: inside a graph a wrong label
            cannot raise an error, and the pipelines check labels before they get here.
        num_classes: Number of known classes.

    Returns:
        `(known, labels)`: bool and int32 `(batch,)`.

    Raises:
        ValueError: `y_true` has another shape.
    """
    y_true = ops.convert_to_tensor(y_true)
    if len(y_true.shape) > 2 or (len(y_true.shape) == 2 and y_true.shape[1] != 1):
        raise ValueError(
            "labels must be integers of shape (batch,) or (batch, 1), with -1 for "
            "unknown images; turn one-hot labels into integers with argmax. Received: "
            f"labels of shape {tuple(y_true.shape)}"
        )
    labels = ops.cast(ops.reshape(y_true, (-1,)), "int32")
    return ops.logical_and(labels >= 0, labels < num_classes), labels
