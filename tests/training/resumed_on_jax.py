"""A run on JAX that is interrupted twice, inside epochs, beside one that is not.

    KERAS_BACKEND=jax python resumed_on_jax.py FOLDER

FOLDER receives the runs `whole` and `interrupted`.
"""

import pathlib
import sys

import keras
import resumable_run

from ood_keras.training.run import TrainingRun


class Interrupted(Exception):
    """As if the process had been killed."""


def train(run_dir, after=None):
    """Trains with a new model; raises `Interrupted` after so many checkpoints."""
    save = TrainingRun.save
    written = 0

    def save_and_count(run):
        nonlocal written
        save(run)
        written += 1
        if written == after:
            raise Interrupted

    TrainingRun.save = save_and_count
    try:
        resumable_run.train(run_dir, resumable_run.build_model(jit_compile="auto"))
    finally:
        TrainingRun.save = save


def main(folder):
    assert keras.backend.backend() == "jax"
    folder = pathlib.Path(folder)
    train(folder / "whole")
    # Eight steps an epoch, each with a checkpoint: in the first, then in the second.
    for after in (4, 9):
        try:
            train(folder / "interrupted", after)
        except Interrupted:
            continue
        raise AssertionError("expected more checkpoints")
    train(folder / "interrupted")


if __name__ == "__main__":
    main(sys.argv[1])
