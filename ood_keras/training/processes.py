"""Processes, on one machine or several, that train one model together, on JAX."""

import contextlib
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ood_keras import files
from ood_keras.training import checkpoints
from ood_keras.types import Json, Path, TrainingData

_NUM_PROCESSES = "KERAS_DISTRIBUTION_NUM_PROCESSES"
# What JAX, its collectives or its coordinator say where another process is gone.
_LOST = (
    "gloo",
    "nccl",
    "connection",
    "heartbeat",
    "coordination service",
    "deadline_exceeded",
    "unavailable",
)
_NO_MULTI_WORKER = (
    "tf.distribute.MultiWorkerMirroredStrategy does not work under Keras 3 "
    "(https://github.com/keras-team/keras/issues/20585)."
)


def join_processes(
    *,
    job_addresses: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Any:
    """Joins this process with others, so that they train one model on JAX together.

    Each of them runs the same program, which calls this before all else that computes,
    then builds and compiles the model and calls `training.fit`, or `model.fit` with a
    `tf.data.Dataset` of the whole batches. Each takes its share of each batch; the
    weights are those of one process that is given the whole, up to rounding. Start them
    as you like: from a shell, with SLURM, as actors of Ray.

    Args:
        job_addresses: "HOST:PORT" of the first process, on which it listens; the same
            for all. `None` takes the environment's KERAS_DISTRIBUTION_JOB_ADDRESSES.
        num_processes: How many processes there are. `None` takes
            KERAS_DISTRIBUTION_NUM_PROCESSES.
        process_id: Which of them this is, from 0. `None` takes
            KERAS_DISTRIBUTION_PROCESS_ID.

    Returns:
        The `keras.distribution.DataParallel` over all devices of all processes, which
        is in force from now on.

    Raises:
        ValueError: Keras does not run on JAX; the number of processes is not given; or
            JAX sees another one, so that each would train a model of its own.
        RuntimeError: the others cannot be reached, or something was computed before.

    Example:

    >>> training.join_processes()  # With KERAS_DISTRIBUTION_... in the environment.
    >>> training.set_seed(0)
    >>> model = ood_keras.models.se_alexnet(input_shape=(28, 28, 1), num_classes=10)
    """
    backend = keras.backend.backend()
    if backend != "jax":
        raise ValueError(
            "several processes train one model with KERAS_BACKEND=jax alone. "
            f"Received: {backend!r}. {_NO_MULTI_WORKER}"
        )
    if num_processes is None and _NUM_PROCESSES in os.environ:
        num_processes = int(os.environ[_NUM_PROCESSES])
    if num_processes is None:
        raise ValueError(
            "expected the number of processes, num_processes=... or "
            f"{_NUM_PROCESSES}=..., which is compared with what JAX sees"
        )
    import jax

    if not jax.distributed.is_initialized():
        # The collectives of CPUs; other devices have their own.
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(job_addresses, num_processes, process_id)
    _check_count(num_processes)
    distribution = keras.distribution.DataParallel()
    keras.distribution.set_distribution(distribution)
    return distribution


def join_if_told() -> None:
    """Joins the processes that the environment names, if it names any.

    Raises:
        ValueError, RuntimeError: as `join_processes`.
    """
    if int(os.environ.get(_NUM_PROCESSES, "1")) > 1:
        join_processes()


def count_processes() -> int:
    """How many processes train together, this one included."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count()


def find_own_number() -> int:
    """Which of the processes this is, from 0."""
    if keras.backend.backend() != "jax":
        return 0
    import jax

    return jax.process_index()


def check(model: keras.Model) -> None:
    """Raises a ValueError where processes would train models of their own."""
    strategy = getattr(model, "distribute_strategy", None)
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            f"{_NO_MULTI_WORKER} Use KERAS_BACKEND=jax and training.join_processes, or "
            "MirroredStrategy on one machine"
        )
    if _NUM_PROCESSES in os.environ:
        _check_count(int(os.environ[_NUM_PROCESSES]))
    workers = _count_ray_workers()
    if workers > 1:
        _check_count(workers)
    count = count_processes()
    if count > 1:
        distribution = keras.distribution.distribution()
        if getattr(distribution, "num_model_replicas", 0) < count:
            raise ValueError(
                f"JAX sees {count} processes, and Keras spreads nothing over them: "
                "each would train a model of its own. Call training.join_processes() "
                "before the model is built"
            )


def choose_folder(run_dir: Path) -> pathlib.Path:
    """The run directory of this process: with `.process-1` and so on, but the first."""
    folder = pathlib.Path(run_dir)
    number = find_own_number()
    return folder.with_name(f"{folder.name}.process-{number}") if number else folder


def check_alike(run: Json) -> None:
    """Raises a ValueError unless all processes were given the same run."""
    if count_processes() == 1:
        return
    digest = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).digest()
    digests = _gather(np.frombuffer(digest, np.uint8))
    others = np.flatnonzero((digests != digests[0]).any(axis=1))
    if len(others):
        raise ValueError(
            "the processes must train the same model on the same data with the same "
            f"settings; process {others[0]} has others than process 0. Start all with "
            "the same program"
        )


def share_newest(folder: pathlib.Path) -> None:
    """Gives each process the newest checkpoint that any of them has.

    Args:
        folder: That of this process's checkpoints.
    """
    if count_processes() == 1:
        return
    mine = checkpoints.read_newest(folder)
    place = (-1, -1) if mine is None else (mine.epoch, mine.step)
    places = _gather(np.array(place, np.int32))
    owner = max(range(len(places)), key=lambda number: tuple(places[number]))
    if places[owner][0] < 0:
        return
    path = checkpoints.path_of(folder, *places[owner].tolist())
    is_owner = owner == find_own_number()
    content = np.fromfile(path, np.uint8) if is_owner else np.zeros(0, np.uint8)
    length = int(_gather(np.array(len(content), np.int32))[owner])
    content = _broadcast(content if is_owner else np.zeros(length, np.uint8), is_owner)
    if tuple(places[owner]) != place:
        with files.atomic_file(path) as temporary:
            temporary.write_bytes(content.tobytes())


def agree_all(flag: bool) -> bool:
    """Whether it is true in every process."""
    return flag if count_processes() == 1 else bool(_gather(np.array(flag)).all())


def check_batches(data: TrainingData) -> None:
    """Raises a ValueError unless every device gets as much of each batch.

    Looked at are the first batch and the last one, which may be smaller.
    """
    number = _count_devices()
    if number == 1:
        return
    for step in sorted({0, int(data.steps_per_epoch) - 1}):
        batch = next(iter(data.epoch(0, step)))
        size = int(keras.tree.flatten(batch)[0].shape[0])
        if size % number:
            raise ValueError(
                f"each batch is split evenly over {number} devices, and batch {step} "
                f"of an epoch has {size} images. Choose a batch_size that {number} "
                "divides, and so many images that the last batch can be split too: "
                "`unknown_per_epoch`, of a recipe too, changes their number"
            )


@contextlib.contextmanager
def split_batches(dataset: tf.data.Dataset) -> Iterator[tf.data.Dataset]:
    """Yields what this process reads of a dataset of whole batches."""
    distribution = keras.distribution.distribution()
    number, count = find_own_number(), count_processes()
    if count == 1:
        yield dataset
        return

    def take(rows):
        size = tf.shape(rows)[0] // count
        return rows[number * size : (number + 1) * size]

    # Keras' own way would give a last, smaller batch to some of the processes only.
    split = keras.distribution.DataParallel(
        device_mesh=distribution.device_mesh, auto_shard_dataset=False
    )
    with split.scope():
        yield dataset.map(lambda *batch: tf.nest.map_structure(take, batch))


@contextlib.contextmanager
def keep_local() -> Iterator[None]:
    """Variables that are made within belong to this process alone."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


@contextlib.contextmanager
def explain_loss(folder: pathlib.Path) -> Iterator[None]:
    """Says what to do where another process is gone."""
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if count_processes() == 1 or not any(sign in text.lower() for sign in _LOST):
            raise
        raise RuntimeError(
            f"process {find_own_number()} of {count_processes()} lost another one, so "
            f"this training cannot go on: {text.splitlines()[0][:200]}. Give the same "
            f"command to all of them again; it goes on from the last checkpoint in "
            f"{folder}"
        ) from error


def _check_count(expected: int) -> None:
    received = count_processes()
    if received != expected:
        raise ValueError(
            f"expected {expected} processes that train one model, and Keras on "
            f"{keras.backend.backend()} sees {received}: each would train a model of "
            "its own. Set KERAS_BACKEND=jax, and call training.join_processes() first "
            "of all in every process"
        )


def _count_ray_workers() -> int:
    """How many workers a trainer of Ray has started; 1 if there is none."""
    train = sys.modules.get("ray.train")
    if train is None:
        return 1
    try:
        return int(train.get_context().get_world_size())
    except Exception:  # Outside of a trainer.
        return 1


def _count_devices() -> int:
    """Over how many devices Keras spreads a batch."""
    distribution = None
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.distribution()
    return getattr(distribution, "num_model_replicas", 1)


def _gather(array: np.ndarray) -> np.ndarray:
    """The arrays of all processes, `(num_processes, ...)`, in each of them."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array))


def _broadcast(array: np.ndarray, is_source: bool) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(array, is_source=is_source))
