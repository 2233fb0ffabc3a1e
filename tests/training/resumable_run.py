"""A small training run with all that is hard to resume, and hooks that kill it."""

import os
import pathlib
import resource
import signal

import keras
import numpy as np
import tensorflow as tf

from ood_keras import files, layers, losses, metrics, training

SEED = 3
NUM_CLASSES = 3
BATCH_SIZE = 16
EPOCHS = 2
SETTINGS = {"recipe": {"name": "test", "learning_rate": 0.05}}


class Data:
    """Batches that are a pure function of (epoch, step); the last one is smaller."""

    def __init__(self, num_images=120):
        generator = np.random.default_rng(0)
        self.labels = generator.integers(-1, NUM_CLASSES, num_images).astype(np.int32)
        signal_ = (self.labels[:, None, None, None] + 1) / 5
        noise = generator.random((num_images, 8, 8, 1))
        self.images = (0.7 * noise + 0.3 * signal_).astype(np.float32)
        self.steps_per_epoch = -(-num_images // BATCH_SIZE)

    def epoch(self, index, start_step=0):
        order = np.random.default_rng((SEED, index)).permutation(len(self.labels))
        order = order[start_step * BATCH_SIZE :]
        arrays = (self.images[order], self.labels[order])
        return tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH_SIZE)

    def validation(self):
        known = self.labels >= 0
        pair = tf.data.Dataset.from_tensor_slices(
            (self.images[known], self.labels[known])
        )
        return pair.batch(32), self.images[~known]


def build_model(
    learning_rate=0.05,
    jit_compile=False,
    normalization=layers.BatchNormalization,
    **compile_arguments,
):
    """A compiled model with batch normalisation, dropout, momentum and a schedule.

    Without XLA, Keras' default and not ours, which takes seconds for so small a model.
    """
    training.set_seed(SEED)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3),
            normalization(momentum=0.8),
            keras.layers.ReLU(),
            keras.layers.Dropout(0.3),
            keras.layers.Flatten(),
            keras.layers.Dense(NUM_CLASSES + 1, name="logits"),
        ]
    )
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, 20)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9),
        loss=losses.OpenSetLoss(NUM_CLASSES),
        metrics=[metrics.KnownAccuracy(NUM_CLASSES)],
        jit_compile=jit_compile,
        **compile_arguments,
    )
    return model


def train(run_dir, model=None, data=None, **arguments):
    """`training.fit` on the small run; checkpoints after every step."""
    data = Data() if data is None else data
    arguments = {
        "epochs": EPOCHS,
        "validation": Data().validation(),
        "num_classes": NUM_CLASSES,
        "settings": SETTINGS,
        "seed": SEED,
        "checkpoint_every": 0.0,
        "progress": False,
        **arguments,
    }
    model = build_model() if model is None else model
    return training.fit(model, data, run_dir=run_dir, **arguments)


def train_until_write(run_dir, number, moment):
    """Trains, but dies by SIGKILL at its `number`th file.

    Args:
        run_dir: The run directory.
        number: Counts the files this process writes, from 1; 0 for no kill.
        moment: "half written", "before rename" or "after rename".
    """
    writes = 0

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    class Dying:
        """The module `os`, as `files` sees it, deadly at the chosen rename."""

        def __getattr__(self, name):
            return getattr(os, name)

        def replace(self, source, target):
            nonlocal writes
            writes += 1
            if writes == number and moment == "half written":
                size = pathlib.Path(source).stat().st_size
                os.truncate(source, size // 2)
                kill()
            if writes == number and moment == "before rename":
                kill()
            os.replace(source, target)
            if writes == number and moment == "after rename":
                kill()

    files.os = Dying()
    train(run_dir)


def train_with_small_files(run_dir, limit, message):
    """Trains where no file can grow beyond `limit` bytes; writes down the `OSError`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        train(run_dir)
    except OSError as error:
        message.write_text(str(error))
