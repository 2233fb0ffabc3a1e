"""A run on JAX, of one process or of several that train together.

    KERAS_BACKEND=jax python joined_processes.py RUN_DIR [SAVES]

With SAVES, the process dies by SIGKILL after so many checkpoints. A process alone tries
first to take part in a job that has fewer processes than it was told; it then trains on
all its devices.
"""

import os
import signal
import sys

import keras
import resumable_run

from ood_keras import training
from ood_keras.training.run import TrainingRun


def die_after(saves):
    save = TrainingRun.save
    written = 0

    def save_and_die(run):
        nonlocal written
        save(run)
        written += 1
        if written == saves:
            os.kill(os.getpid(), signal.SIGKILL)

    TrainingRun.save = save_and_die


def try_to_join_too_few(address):
    import jax

    jax.distributed.initialize(address, num_processes=1, process_id=0)
    try:
        training.join_processes(num_processes=2)
    except ValueError as error:
        print(error)
    else:
        raise AssertionError("one process passed for two")


def main(run_dir, saves=None):
    if saves is not None:
        die_after(int(saves))
    if "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ:
        distribution = training.join_processes()
        assert distribution.num_model_replicas == 2
    else:
        try_to_join_too_few(os.environ["KERAS_DISTRIBUTION_JOB_ADDRESSES"])
        if len(keras.distribution.list_devices()) > 1:
            keras.distribution.set_distribution(keras.distribution.DataParallel())
    resumable_run.train(run_dir, resumable_run.build_model(jit_compile="auto"))


if __name__ == "__main__":
    main(*sys.argv[1:])
