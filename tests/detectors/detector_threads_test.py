"""One detector, many threads: every image gets its own score."""

import concurrent.futures
import copy
import sys
import threading

import keras
import numpy as np
import pytest

from ood_keras import detectors
from ood_keras.detectors import listening as hearing

NUM_THREADS = 8
MEMBERS = {"detectors": ["energy", {"name": "knn", "k": 3}]}


@pytest.fixture(autouse=True)
def _impatient():
    """Threads take turns a thousand times as often as they would."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(function, num_calls=NUM_THREADS):
    """What `function(number)` gives for each number, from threads that begin together.

    An exception is a result too.
    """
    start = threading.Barrier(NUM_THREADS, timeout=60)

    def work(first):
        start.wait()
        found = []
        for number in range(first, num_calls, NUM_THREADS):
            try:
                found.append((number, function(number)))
            except Exception as error:
                found.append((number, error))
        return found

    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        results = dict(
            pair for part in pool.map(work, range(NUM_THREADS)) for pair in part
        )
    return [results[number] for number in range(num_calls)]


@pytest.mark.parametrize("name", detectors.names())
def test_first_calls_at_the_same_time_score_as_one_thread(name, trained, data):
    model = trained[4 if name == "unknown_probability" else 3]
    options = MEMBERS if name == "ensemble" else {}
    detector = detectors.get(name, **options).fit(model, data.train)
    # All of one size, for each other one would be traced too.
    images = np.concatenate([data.known[:48], data.unknown[:48]])
    parts = np.split(images, 4 * NUM_THREADS)
    found = at_once(lambda number: detector.score(parts[number]), len(parts))
    right = detectors.get(name, **options).fit(model, data.train)
    for scores, part in zip(found, parts, strict=True):
        np.testing.assert_allclose(scores, right.score(part), rtol=1e-5, atol=1e-5)
    assert detector.memory.of_all().num_images == len(images)


@pytest.mark.tensorflow
def test_first_calls_at_the_same_time_trace_the_model_once(trained, data):
    calls = []

    class Counted(keras.layers.Layer):
        def call(self, inputs):
            calls.append(inputs.shape)
            return inputs

    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, trained[3](Counted()(inputs)))
    detector = detectors.get("energy", num_classes=3).fit(model)
    calls.clear()
    at_once(lambda _: detector.score(data.known))
    assert len(calls) == 1


def test_detectors_of_one_model_do_not_hear_each_other(trained, data):
    some = [
        detectors.get(name, num_classes=3, **options).fit(trained[3], data.train)
        for name, options in (
            ("energy", {}),
            ("msp", {}),
            ("knn", {}),
            ("knn", {"features": trained[3].layers[1].name}),
        )
    ]
    right = [detector.score(data.known) for detector in map(refitted(data), some)]
    found = at_once(lambda number: some[number % len(some)].score(data.known), 16)
    for number, scores in enumerate(found):
        np.testing.assert_allclose(scores, right[number % len(some)], rtol=1e-5)


def refitted(data):
    def refit(detector):
        new = type(detector).from_config(detector.get_config())
        return new.fit(detector.network.model, data.train)

    return refit


def test_a_user_may_run_the_model_meanwhile(trained, data, monkeypatch):
    """What another thread computes with the model is not taken for ours."""
    model = trained[3]
    detector = detectors.get("knn", num_classes=3).fit(model, data.train)
    right = detector.score(data.known)
    listening, ran = threading.Event(), threading.Event()
    listen = hearing.listen

    def slow_listen(model, layers, images):
        class Slow:
            def __call__(self, images, training):
                output = model(images, training=training)
                listening.set()
                assert ran.wait(60)
                return output

        return listen(Slow(), layers, images)

    def use():
        assert listening.wait(60)
        try:
            return model(np.zeros_like(data.known), training=False)
        finally:
            ran.set()

    fresh = refitted(data)(detector)
    monkeypatch.setattr(hearing, "listen", slow_listen)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        other = pool.submit(use)
        found = fresh.score(data.known)
        assert other.result().shape == (len(data.known), 3)
    np.testing.assert_allclose(found, right, rtol=1e-5)


def test_fitting_meanwhile_is_an_error_and_spoils_nothing(trained, data):
    detector = detectors.get("knn", num_classes=3).fit(trained[3], data.train)
    images, labels = data.train
    few = images[:30], labels[:30]

    def batches():
        yield data.known
        detector.fit(trained[3], few)
        yield data.known

    with pytest.raises(RuntimeError, match="fitted again while it scored"):
        detector.score(batches())
    right = detectors.get("knn", num_classes=3).fit(trained[3], few).score(data.known)
    np.testing.assert_allclose(detector.score(data.known), right, rtol=1e-5)
    assert detector.memory.of_all().num_images == len(data.known)


@pytest.mark.parametrize("end", [True, False])
def test_two_fits_at_once_are_an_error_and_mix_nothing(trained, data, end):
    images, labels = data.train
    detector = detectors.get("knn", num_classes=3)
    halfway, refused = threading.Event(), threading.Event()

    class Slow(list):
        """Batches, of which the last comes when another fit has ended."""

        def __iter__(self):
            yield images[::2], labels[::2]
            halfway.set()
            assert refused.wait(60)
            if not end:
                raise OSError("the data broke off")
            yield images[1::2], labels[1::2]

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(detector.fit, trained[3], Slow())
        assert halfway.wait(60)
        try:
            with pytest.raises(RuntimeError, match="is being fitted already"):
                detector.fit(trained[3], (images[:30], labels[:30]))
        finally:
            refused.set()
        if end:
            first.result()
        else:
            with pytest.raises(OSError, match="broke off"):
                first.result()
            detector.fit(trained[3], data.train)
    # In the same batches: others round otherwise, and distances near 0 are rounding.
    batches = [(images[start::2], labels[start::2]) for start in (0, 1)]
    right = detectors.get("knn", num_classes=3)
    right.fit(trained[3], batches if end else data.train)
    np.testing.assert_allclose(
        detector.score(data.known), right.score(data.known), rtol=1e-5
    )


def test_scores_while_another_thread_fits_are_of_one_fit(trained, data):
    images, labels = data.train
    halves = (images[::2], labels[::2]), (images[1::2], labels[1::2])
    detector = detectors.get("knn", num_classes=3).fit(trained[3], halves[0])
    right = [
        detectors.get("knn", num_classes=3).fit(trained[3], half).score(data.known)
        for half in halves
    ]

    def work(number):
        if number % NUM_THREADS:
            return detector.score(data.known)
        detector.fit(trained[3], halves[number // NUM_THREADS % 2])
        return None

    found = at_once(work, 4 * NUM_THREADS)
    for scores in found:
        if isinstance(scores, Exception):
            assert isinstance(scores, RuntimeError), repr(scores)
        elif scores is not None:
            assert min(np.abs(scores - each).max() for each in right) < 1e-4


def test_a_detector_that_has_scored_nothing_can_be_copied(trained, data):
    detector = detectors.get("knn", num_classes=3).fit(trained[3], data.train)
    assert vars(copy.copy(detector)).keys() == vars(detector).keys()
    assert copy.deepcopy(detector.memory).of_all() is None
