"""The graph that is served: checks, network, detector and threshold in one."""

from collections.abc import Sequence

import tensorflow as tf

from ood_keras import batches
from ood_keras.conventions import (
    MOST_EXPLAINED,
    RANGE_TOLERANCE,
    REJECTED_SCORE,
    UNKNOWN,
    UNKNOWN_LABEL,
)
from ood_keras.export import graph_heat_map, image_bytes
from ood_keras.image_files import BACKGROUND
from ood_keras.types import ImageShape, LiveModel, Path

# A pixel that no image has.
_OUT_OF_RANGE = 2.0


def save(
    folder: Path,
    detector: LiveModel,
    threshold: float | Sequence[float],
    class_names: Sequence[str],
    image_shape: ImageShape,
    background: int | None = BACKGROUND,
    exif_orientation: bool = True,
    explain: bool = False,
) -> None:
    """Writes a detector with its network as a SavedModel that every loader can open.

    Keras objects are called from closures and not tracked; the raw `tf.Variable`s are.
    Tracking a Keras model stores every weight twice, or makes a file that a Session,
    and so TensorFlow Serving, cannot open.

    Args:
        folder: Where to write.
        detector: Fitted detector.
        threshold: Largest accepted `ood_score`, a float, or one for each predicted
            class; saved as the variable `threshold` of the module, a scalar or `(N,)`.
        class_names: Labels of the N known classes.
        image_shape: `(height, width, channels)`.
        background: Grey level on which transparent pixels of files are laid; `None`
            drops alpha.
        exif_orientation: Whether to turn JPEG files as their camera's note says.
        explain: Whether to add the signature `explain`.
    """
    module = tf.Module()
    module.threshold = tf.Variable(
        threshold, trainable=False, dtype=tf.float32, name="threshold"
    )
    image = tf.TensorSpec((None, *image_shape), tf.float32, name="image")
    limits = tf.TensorSpec((None,), tf.float32, name="threshold")
    contents = tf.TensorSpec((None,), tf.string, name="image_bytes")

    # One function that every signature calls: the arrays of a fitted detector are
    # constants in it, and so are stored once.
    @tf.function(input_signature=[image], autograph=False)
    def look(image):
        return _look(detector, image)

    def serving_default(image):
        of_classes = module.threshold.shape.rank == 1
        return _decide(look(image), module.threshold, class_names, of_classes)

    def predict_at(image, threshold):
        # Without this, a single threshold would silently be broadcast.
        one_each = tf.debugging.assert_equal(
            tf.shape(threshold),
            tf.shape(image)[:1],
            "predict_at takes one threshold for each image",
        )
        with tf.control_dependencies([one_each]):
            threshold = tf.identity(threshold)
        return _decide(look(image), threshold, class_names)

    def answer_files(contents):
        images = image_bytes.read(contents, image_shape, background, exif_orientation)
        return _answer_files(serving_default, *images)

    def predict_bytes(image_bytes):
        return _in_slices(answer_files, image_bytes, batches.files_at_once(image_shape))

    def features(image):
        seen = look(image)
        return {
            name: _where_usable(seen, seen[name]) for name in ("features", "logits")
        }

    def explain_images(image):
        """Each takes about two hundred runs of the network."""
        few = tf.debugging.assert_less_equal(
            tf.shape(image)[0],
            MOST_EXPLAINED,
            f"explain takes at most {MOST_EXPLAINED} images a request; send fewer",
        )
        with tf.control_dependencies([few]):
            seen = look(image)

        def score(images):
            return look(images)["ood_score"]

        # What is no image has no place that is strange.
        usable = tf.reshape(seen["usable"], (-1, 1, 1, 1))
        images = tf.where(usable, tf.clip_by_value(image, 0.0, 1.0), 0.5)
        heat = graph_heat_map.heat_maps(score, images, image_shape)
        return {"heat": tf.where(usable[..., 0], heat, 0.0)}

    signatures = {
        "serving_default": _signature(serving_default, image),
        "predict_at": _signature(predict_at, image, limits),
        "features": _signature(features, image),
    }
    if takes_files(image_shape):
        signatures["predict_bytes"] = _signature(predict_bytes, contents)
    if explain:
        signatures["explain"] = _signature(explain_images, image)
    module.weights = list_variables(look.get_concrete_function())
    try:
        tf.saved_model.save(module, str(folder), signatures=signatures)
    except tf.errors.OpError as error:  # A full disk, for example.
        raise OSError(error.message) from error


def takes_files(image_shape: ImageShape) -> bool:
    """Whether image files can be converted to this shape."""
    return image_shape[-1] in (1, 3)


def _in_slices(answer, contents, size):
    """What `answer` makes of `size` files at a time.

    A request of many small files, or empty ones, would else take the memory of as many
    images at once.

    Args:
        answer: Returns a dict of tensors with a row for each file.
        contents: String `(batch,)`.
        size: How many files at a time.
    """
    answer = tf.function(answer, autograph=False).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )
    answered = answer.structured_outputs
    count = tf.size(contents)

    def step(start, parts):
        values = answer(contents[start : start + size])
        parts = {
            name: part.write(start // size, values[name])
            for name, part in parts.items()
        }
        return start + size, parts

    parts = {
        name: tf.TensorArray(
            values.dtype,
            size=0,
            dynamic_size=True,
            infer_shape=False,
            element_shape=values.shape,
        )
        for name, values in answered.items()
    }
    # No files are a slice too.
    _, parts = tf.while_loop(
        lambda start, _: (start < count) | (start == 0),
        step,
        (tf.constant(0), parts),
        parallel_iterations=1,
    )
    return {
        name: tf.ensure_shape(part.concat(), answered[name].shape)
        for name, part in parts.items()
    }


def _answer_files(answer, pixels, readable):
    """What `answer` makes of the images in some files.

    What cannot be read stays in its row, as an image without pixels, so that the others
    are answered as if it could be. Where few can be read, the network sees only those.
    """
    few = tf.math.count_nonzero(readable, dtype=tf.int32) * 4 < tf.size(readable)
    kept = readable | ~few
    # One stands for all that are left out.
    rows = tf.concat([tf.where(kept)[:, 0], tf.where(~kept)[:1, 0]], axis=0)
    images = tf.where(
        tf.reshape(tf.gather(readable, rows), (-1, 1, 1, 1)),
        image_bytes.scale(tf.gather(pixels, rows)),
        float("nan"),
    )
    place = tf.where(kept, tf.cumsum(tf.cast(kept, tf.int32)), tf.size(rows)) - 1
    answers = answer(images)
    return {name: tf.gather(values, place) for name, values in answers.items()}


def answer(
    detector: LiveModel,
    threshold: float | Sequence[float],
    class_names: Sequence[str],
    image: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """What `serving_default` answers for a batch of images, live.

    Args:
        detector: Fitted detector.
        threshold: Largest accepted `ood_score`, or one for each predicted class.
        class_names: Labels of the N known classes.
        image: Float32 `(batch, height, width, channels)`.
    """
    limits = tf.constant(threshold, tf.float32)
    seen = _look(detector, image)
    return _decide(seen, limits, class_names, limits.shape.rank == 1)


def _signature(function, *specs):
    function = tf.function(function, input_signature=specs, autograph=False)
    return function.get_concrete_function()


def list_variables(function):
    """The variables that `function` reads, in the order in which it reads them."""
    order = {id(handle): place for place, handle in enumerate(function.captured_inputs)}
    return sorted(function.variables, key=lambda variable: order[id(variable.handle)])


def _look(detector, image):
    """What network and detector make of each image, and whether it may be believed."""
    image = tf.ensure_shape(image, (None, *image.shape[1:]))
    # Conditions on NaN itself survive the conversion to ONNX; others do not.
    image = tf.where(tf.math.is_nan(image), _OUT_OF_RANGE, image)
    # The extremes say it with less work than a comparison of every pixel.
    lowest, highest = (
        extreme(image, axis=(1, 2, 3)) for extreme in (tf.reduce_min, tf.reduce_max)
    )
    valid = (lowest >= -RANGE_TOLERANCE) & (highest <= 1.0 + RANGE_TOLERANCE)
    rows = tf.shape(image)[0]
    # An empty batch crashes oneDNN's convolutions, so it gets a row that is cut off.
    extra = tf.cast(tf.equal(rows, 0), tf.int32)
    image = tf.pad(image, [[0, extra], [0, 0], [0, 0], [0, 0]])
    outputs = {
        name: tf.cast(output, tf.float32)[:rows]
        for name, output in detector.call(tf.clip_by_value(image, 0.0, 1.0)).items()
    }
    # One NaN or infinite number among them, and the sum is no finite number.
    total = outputs["ood_score"]
    for name in ("logits", "features"):
        total += tf.reduce_sum(outputs[name], axis=-1)
    return {**outputs, "valid": valid, "usable": valid & tf.math.is_finite(total)}


def _decide(seen, threshold, class_names, of_classes=False):
    """The decision for each image, given what was seen and what to accept."""
    usable = seen["usable"]
    score = tf.where(usable, seen["ood_score"], REJECTED_SCORE)
    known = seen["logits"][:, : len(class_names)]
    best = tf.argmax(known, axis=-1, output_type=tf.int32)
    if of_classes:
        threshold = tf.gather(threshold, best)
    accepted = usable & (score <= threshold)
    class_id = tf.where(accepted, best, UNKNOWN)
    labels = tf.constant([UNKNOWN_LABEL, *class_names])
    return {
        "class_id": class_id,
        "label": tf.gather(labels, class_id - UNKNOWN),
        "probabilities": _where_usable(seen, tf.nn.softmax(known)),
        "ood_score": score,
        "accepted": accepted,
        "valid": seen["valid"],
    }


def _where_usable(seen, values):
    """`values` `(batch, ...)`, and 0 where there is no answer."""
    return tf.where(tf.expand_dims(seen["usable"], 1), values, 0.0)
