"""The sketch: its bound, merging, and the Keras metric over it."""

import concurrent.futures
import copy
import multiprocessing
import time

import keras
import numpy as np
import pytest
from references import metrics_reference

from ood_keras import metrics
from ood_keras.metrics.measures import BUILT_IN
from ood_keras.metrics.score_sketch import NUM_BINS, bin_index

CASES = metrics_reference.score_cases()
rng = np.random.default_rng(11)
# Hard for bins: many scores in one bin, in either order, and scores on its edges.
CASES |= {
    "one_bin_right_order": (
        1 + np.arange(50, dtype=np.float32) * 1e-6,
        1 + np.arange(50, 99, dtype=np.float32) * 1e-6,
    ),
    "one_bin_wrong_order": (
        1 + np.arange(50, 99, dtype=np.float32) * 1e-6,
        1 + np.arange(50, dtype=np.float32) * 1e-6,
    ),
    "few_bins": (
        rng.normal(100, 0.3, 3000).astype(np.float32),
        rng.normal(100.5, 0.5, 2000).astype(np.float32),
    ),
    "heavy_tails": (
        rng.standard_cauchy(3000).astype(np.float32),
        (1e4 * rng.standard_cauchy(2000)).astype(np.float32),
    ),
    "beyond_the_bins": (
        np.float32([1e-20, -1e-20, 1e15, 1e16, 0.0]),
        np.float32([2e-20, 1e20, np.inf, 1e15, -1e30]),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_exact_metrics_lie_inside_the_stated_intervals(case):
    known, unknown = CASES[case]
    sketch = metrics.ScoreSketch().update(known, unknown)
    exact = metrics.evaluate_scores(known, unknown)
    estimate = sketch.evaluate()
    intervals = sketch.intervals()
    assert list(estimate) == list(intervals) == list(exact)
    for name, (low, high) in intervals.items():
        assert low - 1e-12 <= exact[name] <= high + 1e-12
        assert low - 1e-12 <= estimate[name] <= high + 1e-12


@pytest.mark.parametrize("seed", range(30))
def test_the_bound_holds_for_any_order_within_bins(seed):
    """Few bins, many scores in each, at random."""
    rng = np.random.default_rng(seed)
    width = 2.0**-9
    known, unknown = (
        (1 + width * (rng.integers(0, 4, n) + rng.random(n))).astype(np.float32)
        for n in rng.integers(1, 40, 2)
    )
    if seed % 2:
        known, unknown = np.sort(known)[::-1], np.round(unknown, 3)
    intervals = metrics.ScoreSketch().update(known, unknown).intervals()
    for name, value in metrics.evaluate_scores(known, unknown).items():
        low, high = intervals[name]
        assert low - 1e-12 <= value <= high + 1e-12


def test_it_is_exact_for_rounded_scores():
    known, unknown = CASES["heavy_tails"]
    sketch = metrics.ScoreSketch().update(known, unknown)
    bins = [bin_index(np, scores.view(np.int32)) for scores in (known, unknown)]
    assert sketch.evaluate() == pytest.approx(metrics.evaluate_scores(*bins))


def test_bins_follow_the_scores():
    scores = np.sort(
        np.concatenate(
            [
                sign * 10.0 ** np.random.default_rng(0).uniform(-30, 30, 5000)
                for sign in (-1, 1)
            ]
            + [[0.0, np.inf, -np.inf]]
        )
    ).astype(np.float32)
    bins = bin_index(np, scores.view(np.int32))
    assert np.all(np.diff(bins) >= 0)
    assert bins[0] == 0 and bins[-1] == NUM_BINS - 1
    apart = (np.abs(scores[1:]) > 1e-7) & (np.abs(scores[1:]) < 1e12)
    apart &= scores[1:] - scores[:-1] > np.abs(scores[1:]) * 2.0**-8
    assert np.all(np.diff(bins)[apart] > 0)


def test_typical_scores_are_bounded_within_a_thousandth():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(-5, 3, 100_000), rng.normal(3, 4, 50_000)
    sketch = metrics.ScoreSketch().update(known, unknown)
    for low, high in sketch.intervals().values():
        assert high - low < 1e-3


@pytest.mark.parametrize("case", ["overlapping", "infinities", "heavy_tails"])
def test_merging_in_any_order_loses_nothing(case):
    known, unknown = CASES[case]
    whole = metrics.ScoreSketch().update(known, unknown)
    parts = [metrics.ScoreSketch().update(known[i::3], unknown[i::3]) for i in range(3)]
    merged = metrics.ScoreSketch()
    for i in (2, 0, 1):
        merged.merge(parts[i])
    np.testing.assert_array_equal(merged.counts, whole.counts)
    np.testing.assert_array_equal(
        metrics.ScoreSketch(whole.counts).counts, whole.counts
    )


def test_memory_is_bounded():
    sketch = metrics.ScoreSketch()
    size = sketch.counts.nbytes
    rng = np.random.default_rng(0)
    for _ in range(3):
        sketch.update(rng.normal(size=10_000), rng.normal(size=10_000))
    assert sketch.counts.nbytes == size <= 2**20


@pytest.mark.parametrize("case", ["overlapping", "few_bins"])
def test_any_number_of_images_overflows_nothing(case):
    sketch = metrics.ScoreSketch().update(*CASES[case])
    many = metrics.ScoreSketch(sketch.counts * 10**9)
    assert many.evaluate() == pytest.approx(sketch.evaluate(), rel=1e-12)
    for name, (low, high) in many.intervals().items():
        assert low <= high
        if not name.startswith("aupr"):  # 1 of so many images is another fraction.
            assert (low, high) == pytest.approx(sketch.intervals()[name], abs=1e-12)


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match="holds NaN"):
        metrics.ScoreSketch().update([np.nan])
    with pytest.raises(ValueError, match="has seen no unknown score"):
        metrics.ScoreSketch().update([1.0]).evaluate()
    with pytest.raises(ValueError, match="has seen no known score"):
        metrics.ScoreSketch().intervals()
    with pytest.raises(ValueError, match="those of another sketch"):
        metrics.ScoreSketch(np.zeros((2, 10)))


def test_what_is_refused_is_not_half_counted():
    sketch = metrics.ScoreSketch()
    with pytest.raises(ValueError, match="`unknown_scores` holds NaN"):
        sketch.update([1.0, 2.0], [np.nan])
    assert not sketch.counts.any()


class TestStreamingRanking:
    def logits_of(self, scores):
        return np.repeat(-np.asarray(scores, np.float32)[:, None], 2, axis=1)

    def metric_of(self, known, unknown, size=1000):
        metric = metrics.StreamingRanking(num_classes=2, score="max_logit")
        for label, scores in ((0, known), (-1, unknown)):
            for start in range(0, len(scores), size):
                batch = scores[start : start + size]
                metric.update_state(np.full(len(batch), label), self.logits_of(batch))
        return metric

    @pytest.mark.parametrize(
        "case", [name for name, pair in CASES.items() if pair[0].dtype == np.float32]
    )
    def test_equals_the_sketch(self, case):
        known, unknown = CASES[case]
        sketch = metrics.ScoreSketch().update(known, unknown)
        metric = self.metric_of(known, unknown)
        if case != "subnormals":  # TensorFlow takes them for 0.
            np.testing.assert_array_equal(metric.sketch().counts, sketch.counts)
        result = {name: float(value) for name, value in metric.result().items()}
        assert result == pytest.approx(metric.sketch().evaluate(), abs=1e-5)

    def test_many_images_overflow_nothing(self):
        metric = self.metric_of(*CASES["overlapping"])
        metric._counts.assign(metric._counts * 10_000_000)
        result = {name: float(value) for name, value in metric.result().items()}
        assert result == pytest.approx(metric.sketch().evaluate(), abs=1e-5)

    def test_beyond_two_billion_images_of_a_kind_the_result_is_nan(self):
        metric = self.metric_of([0.0, 1.0], [0.5, 2.0])
        for factor, broken in ((10**9, False), (2, True)):
            metric._counts.assign(metric._counts * np.int32(factor))
            assert np.isnan(float(metric.result()["auroc"])) == broken

    def test_merge_state(self):
        known, unknown = CASES["few_bins"]
        whole = self.metric_of(known, unknown)
        first = self.metric_of(known[:1000], unknown[:10])
        first.merge_state(
            [self.metric_of(known[1000:], []), self.metric_of([], unknown[10:])]
        )
        np.testing.assert_array_equal(first.sketch().counts, whole.sketch().counts)

    def test_merging_keeps_a_nan(self):
        metric, broken = self.metric_of([0.0], [1.0]), self.metric_of([np.nan], [])
        metric.merge_state([broken])
        assert np.all(np.isnan([float(v) for v in metric.result().values()]))

    def test_empty_looks_useless_and_nan_shows(self):
        metric = metrics.StreamingRanking(num_classes=2, score="max_logit")
        result = {name: float(value) for name, value in metric.result().items()}
        assert result == {name: m.useless for name, m in BUILT_IN.items()}
        assert result["auroc"] == 0.5
        assert result["fpr95_known_positive"] == 1
        metric.update_state([0, -1, 0], self.logits_of([0.0, 1.0, np.nan]))
        assert np.all(np.isnan([float(v) for v in metric.result().values()]))
        metric.reset_state()
        assert float(metric.result()["auroc"]) == 0.5

    def test_config_round_trip(self):
        metric = metrics.StreamingRanking(3, score="energy", prefix="energy_")
        copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
        assert copy.get_config() == metric.get_config()


class SlowCounts(np.ndarray):
    """Counts that other threads may run in the middle of, as they may in NumPy's."""

    def __iadd__(self, other):
        before = np.array(self)
        time.sleep(0.005)
        self[...] = before + other
        return self


@pytest.mark.parametrize("add", ["update", "merge"])
def test_threads_that_add_to_one_sketch_lose_nothing(add):
    sketch = metrics.ScoreSketch()
    sketch.counts = sketch.counts.view(SlowCounts)
    part = metrics.ScoreSketch().update([1.0, 2.0], [3.0])

    def work(_):
        if add == "update":
            sketch.update([1.0, 2.0], [3.0])
        else:
            sketch.merge(part)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert (sketch.num_known, sketch.num_unknown) == (32, 16)


def send_through_pipe(thing):
    """As processes send it to each other."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # It is larger than what a pipe holds while nobody reads.
    with receiver, sender, concurrent.futures.ThreadPoolExecutor(1) as pool:
        sent = pool.submit(sender.send, thing)
        received = receiver.recv()
        sent.result()
    return received


def test_a_sketch_travels_to_other_processes():
    sketch = metrics.ScoreSketch().update([1.0, 2.0], [3.0])
    for other in (copy.deepcopy(sketch), send_through_pipe(sketch)):
        np.testing.assert_array_equal(other.counts, sketch.counts)
        assert other.update([1.0]).num_known == 3
