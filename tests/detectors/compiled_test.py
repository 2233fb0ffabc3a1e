import threading
import time

import numpy as np
import pytest

from ood_keras.batches import files_at_once
from ood_keras.detectors import compiled


def batches_of(num_images, batch_size):
    images = np.arange(num_images, dtype=np.float32).reshape(-1, 1, 1, 1)
    return [
        images[start : start + batch_size]
        for start in range(0, len(images), batch_size)
    ]


class Recorder:
    """Returns the images, and remembers how many it had at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.sizes = []

    def __call__(self, images):
        with self.lock:
            self.sizes.append(len(images))
            self.now += len(images)
            self.most = max(self.most, self.now)
        time.sleep(0.002 * np.random.default_rng(int(images[0, 0, 0, 0])).random())
        with self.lock:
            self.now -= len(images)
        return images[:, 0, 0, 0]


@pytest.mark.parametrize("num_images", [1, 63, 64, 255, 256, 1000])
@pytest.mark.parametrize("batch_size", [1, 64, 100, 128, 256, 2000])
def test_order_is_kept_and_a_batch_is_the_most_at_once(num_images, batch_size):
    batches = batches_of(num_images, batch_size)
    recorder = Recorder()
    found = np.concatenate(list(compiled.over_batches(recorder, batches)))
    np.testing.assert_array_equal(found, np.arange(num_images))
    assert recorder.most <= batch_size
    assert sum(recorder.sizes) == num_images


@pytest.mark.tensorflow
def test_slices_run_side_by_side():
    both = threading.Barrier(2, timeout=10)

    def run(images):
        both.wait()  # passes only if two calls are under way
        return images

    assert len(list(compiled.over_batches(run, batches_of(8 * 64, 128)))) == 8


@pytest.mark.tensorflow
def test_threads_share_one_graph():
    traces = []

    def double(images):
        traces.append(images.shape)
        time.sleep(0.05)
        return 2 * images[:, 0, 0, 0]

    run = compiled.compile_function(double)
    found = np.concatenate(list(compiled.over_batches(run, batches_of(600, 256))))
    np.testing.assert_array_equal(found, 2 * np.arange(600))
    assert len(traces) == 1


def test_no_batches_and_empty_batches_give_nothing():
    empty = np.zeros((0, 1, 1, 1), np.float32)
    assert list(compiled.over_batches(Recorder(), [])) == []
    assert list(compiled.over_batches(Recorder(), [empty, empty])) == []
    two = compiled.over_batches(Recorder(), [empty, np.ones((2, 1, 1, 1)), empty])
    assert [len(part) for part in two] == [2]


def test_an_error_in_a_slice_reaches_the_caller():
    def run(images):
        if images[0, 0, 0, 0] >= 256:
            raise ValueError("no such image")
        return images

    with pytest.raises(ValueError, match="no such image"):
        list(compiled.over_batches(run, batches_of(512, 256)))


@pytest.mark.parametrize("gains", [True, False])
def test_of_large_images_fewer_are_worked_on_at_once(monkeypatch, gains):
    monkeypatch.setattr(compiled, "_gains_by_slices", lambda: gains)
    numbers = np.arange(70, dtype=np.float32).reshape(-1, 1, 1, 1)
    large = np.broadcast_to(numbers, (70, 512, 512, 3))
    recorder = Recorder()
    found = np.concatenate(list(compiled.over_batches(recorder, [large, large[:3]])))
    np.testing.assert_array_equal(found, [*range(70), *range(3)])
    assert max(recorder.sizes) == files_at_once(large.shape[1:]) < 10


@pytest.mark.tensorflow
@pytest.mark.parametrize("transposed", [False, True])
def test_large_arrays_are_arguments_of_a_graph_and_small_ones_constants(transposed):
    random = np.random.default_rng(0)
    large = random.normal(size=(600, 600)).astype(np.float32)
    small = large[:3, :3]
    made = []

    def function(images):
        both = [
            compiled.as_constant(array, transposed=transposed)
            for array in (large, small)
        ]
        made.append([hasattr(tensor, "numpy") for tensor in both])
        return images[:, 0, 0, :] @ both[0], images[:, 0, 0, :3] @ both[1]

    images = random.normal(size=(5, 1, 1, 600)).astype(np.float32)
    found = compiled.compile_function(function)(images)
    # A tensor with a value is none of the graph.
    assert made == [[True, False]]
    rows = images[:, 0, 0, :]
    for array, product in zip((large, small), found, strict=True):
        expected = rows[:, : len(array)] @ (array.T if transposed else array)
        np.testing.assert_allclose(product, expected, rtol=1e-4, atol=1e-4)
    # Graphs of others, such as exported ones, hold all.
    assert not compiled._captures.get()
