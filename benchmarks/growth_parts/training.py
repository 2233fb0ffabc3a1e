"""Training images a second, against the size of the batch.

Three sides train the same network, `se_alexnet` on images of 28 x 28, with the same
optimizer, and take turns. `plain` is `model.fit` with Keras' cross-entropy on a
`tf.data` dataset of float arrays, `ours` `model.fit` with `OpenSetLoss` on
`pipelines.interleave`, and `two_replicas` the same under
`tf.distribute.MirroredStrategy` of two logical devices, which share the processor: what
it loses beside `ours` is what splitting costs, and nobody gains. Seconds are the
processor's, of one epoch, the mean of two after one that is not counted.
"""

import statistics
import time

import numpy as np

NUM_CLASSES = 10
SIDES = ("plain", "ours", "two_replicas")
BATCH_SIZES = (8, 32, 128, 512)
FIRST, MOST, MOST_HELD = 8, 512, 0
PACKAGES = ("numpy", "tensorflow", "keras")
ROUNDS = 2


def measure(most, most_held, num_images=1024, build=None):
    """The rows of all sides, for batches of up to `most` images."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    found = {side: {} for side in SIDES}
    for size in BATCH_SIZES:
        if size > most:
            continue
        count = max(num_images, 2 * size)
        runs = {side: prepare(side, size, count, build) for side in SIDES}
        seconds = {side: [] for side in SIDES}
        for number in range(1 + ROUNDS):
            for side, run in runs.items():
                taken = run()
                if number:
                    seconds[side].append(taken)
        for side in SIDES:
            per_second = count / statistics.median(seconds[side])
            found[side][str(size)] = {"images_per_second": round(per_second, 1)}
    return compare(found)


def compare(found):
    """Adds to the rows the speed beside that of plain Keras."""
    for side in SIDES[1:]:
        for size, row in found[side].items():
            plain = found["plain"][size]["images_per_second"]
            row["times_plain"] = round(row["images_per_second"] / plain, 3)
    return {"rounds": ROUNDS, "sides": found}


def make_images(count):
    """`(pixels, labels)`, a tenth of them unknown, with the label -1."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 28, 28, 1), np.uint8)
    labels = np.arange(count) % (NUM_CLASSES + 1)
    return pixels, np.where(labels == NUM_CLASSES, -1, labels)


def prepare(side, batch_size, count, build=None):
    """A function that trains for one epoch and returns the processor's seconds."""
    import keras
    import tensorflow as tf

    import ood_keras
    from ood_keras import pipelines

    pixels, labels = make_images(count)
    if side == "plain":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        arrays = pixels.astype(np.float32) / 255, labels % (NUM_CLASSES + 1)
        data = tf.data.Dataset.from_tensor_slices(arrays)
        data = data.shuffle(count).batch(batch_size)
    else:
        loss = ood_keras.losses.OpenSetLoss(NUM_CLASSES)
        data = pipelines.interleave(
            (pixels[labels >= 0], labels[labels >= 0]),
            (pixels[labels < 0], labels[labels < 0]),
            NUM_CLASSES,
            batch_size=batch_size,
            normalize=False,
        )
    strategy = tf.distribute.get_strategy()
    if side == "two_replicas":
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        keras.utils.set_random_seed(0)
        network = (build or ood_keras.models.se_alexnet)(
            input_shape=(28, 28, 1), num_classes=NUM_CLASSES
        )
        network.compile(
            keras.optimizers.SGD(0.01, momentum=0.9), loss=loss, jit_compile=False
        )

    def run():
        began = time.process_time()
        network.fit(data, verbose=0)
        return time.process_time() - began

    return run


def draw(found):
    """Images a second, and their ratio to plain Keras, against the batch."""
    from growth_parts import sides

    titles = {
        "images_per_second": "images a second of the processor",
        "times_plain": "times plain Keras",
    }
    rows = {
        side: {size: {"times_plain": 1.0, **row} for size, row in of_side.items()}
        for side, of_side in found["sides"].items()
    }
    figure = sides.draw(rows, titles, "images in a batch")
    for axes in figure.axes:
        axes.set(yscale="linear", ylim=(0, None))
        axes.set_xticks(BATCH_SIZES, map(str, BATCH_SIZES), minor=False)
        axes.set_xticks([], minor=True)
    return figure
