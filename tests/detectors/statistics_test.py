import numpy as np
import pytest

from ood_keras.detectors import gaussian
from ood_keras.detectors.statistics import (
    ClassSums,
    CorrectMeans,
    Sample,
    SecondMoment,
    Smallest,
    Sums,
    whitening,
)

pytestmark = pytest.mark.kernels


@pytest.fixture
def stream():
    generator = np.random.default_rng(0)
    labels = np.arange(500) % 4
    # Far from the origin, where naive float32 sums of squares lose all digits.
    features = 1000 + labels[:, None] + generator.normal(size=(500, 6))
    return features.astype(np.float32), labels


def summed(features, labels, num_rows=5):
    sums = ClassSums(num_rows, features.shape[1])
    for start in range(0, len(labels), 37):
        sums.add(features[start : start + 37], labels[start : start + 37])
    return sums


def test_class_sums(stream):
    features, labels = stream
    sums = summed(features, labels)
    exact = features.astype(np.float64)
    means = np.stack([exact[labels == label].mean(axis=0) for label in range(4)])
    centred = exact - means[labels]
    np.testing.assert_allclose(sums.mean(), exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(sums.class_means(4), means, rtol=1e-12)
    np.testing.assert_allclose(sums.covariance(), np.cov(exact.T, bias=True), atol=1e-9)
    np.testing.assert_allclose(
        sums.pooled_covariance(), centred.T @ centred / 500, atol=1e-9
    )
    with pytest.raises(ValueError, match="class 4"):
        sums.class_means(5)


def in_parts(features, labels, num_rows=5):
    """Merged sums of parts of other sizes, one of them empty."""
    parts = [
        summed(features[rows], labels[rows], num_rows)
        for rows in np.split(np.arange(len(labels)), [3, 3, 200])
    ]
    merged = parts.pop(1)
    for part in parts:
        merged.merge(part)
    return merged


def test_class_sums_merge_whatever_their_origins(stream):
    features, labels = stream
    # Sorted, so that parts lie far apart, and with them their origins.
    order = np.argsort(features[:, 0])
    at_once, merged = (
        make(features[order], labels[order]) for make in (summed, in_parts)
    )
    np.testing.assert_array_equal(merged.counts, at_once.counts)
    np.testing.assert_allclose(merged.mean(), at_once.mean(), rtol=1e-13)
    np.testing.assert_allclose(
        merged.class_means(4), at_once.class_means(4), rtol=1e-13
    )
    for name in ("covariance", "pooled_covariance", "second_moment"):
        np.testing.assert_allclose(
            getattr(merged, name)(), getattr(at_once, name)(), rtol=1e-9, atol=1e-10
        )
    assert merged.rounding_variance() == pytest.approx(
        at_once.rounding_variance(), rel=1e-3
    )


def test_class_sums_of_projected_features(stream):
    features, labels = stream
    matrix = np.random.default_rng(1).normal(size=(6, 3))
    projected = summed(features, labels).project(matrix)
    exact = features.astype(np.float64) @ matrix
    np.testing.assert_allclose(projected.mean(), exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        projected.covariance(), np.cov(exact.T, bias=True), rtol=1e-9
    )


def test_the_second_moment_is_about_the_origin(stream):
    features, labels = stream
    exact = features.astype(np.float64)
    expected = exact.T @ exact / len(exact)
    np.testing.assert_allclose(
        summed(features, labels).second_moment(), expected, rtol=1e-12
    )
    moment, other = SecondMoment(6), SecondMoment(6)
    moment.add(features[:100])
    other.add(features[100:])
    moment.merge(other)
    np.testing.assert_allclose(moment.second_moment(), expected, rtol=1e-12)


def test_sums_and_correct_means_merge():
    generator = np.random.default_rng(0)
    rows, labels = generator.normal(size=(60, 4)), np.arange(60) % 3
    predicted = np.where(np.arange(60) % 7 == 0, 0, labels)
    sums, means = [Sums(), Sums()], [CorrectMeans(3, 4), CorrectMeans(3, 4)]
    for part, place in enumerate((slice(0, 25), slice(25, 60))):
        sums[part].add(rows=rows[place], squares=rows[place] ** 2)
        means[part].add(rows[place], labels[place], predicted[place])
    sums[0].merge(sums[1])
    means[0].merge(means[1])
    assert sums[0].count == 60
    np.testing.assert_allclose(sums[0].mean("rows"), rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(sums[0].sum("squares"), (rows**2).sum(axis=0))
    expected = [
        rows[(labels == label) & (predicted == label)].mean(axis=0)
        for label in range(3)
    ]
    np.testing.assert_allclose(means[0].means(), expected, rtol=1e-12)


def test_squared_distances_far_from_the_origin(stream):
    features, labels = stream
    sums = summed(features, labels)
    distances = gaussian.squared_distances(features, **gaussian.fit(sums, 4, 0.0, 0.0))
    inverse = np.linalg.inv(sums.pooled_covariance())
    for label, mean in enumerate(sums.class_means(4)):
        gaps = features - mean
        expected = np.einsum("ni,ij,nj->n", gaps, inverse, gaps)
        np.testing.assert_allclose(distances[:, label], expected, rtol=2e-3, atol=2e-3)


def test_whitening_leaves_directions_without_variance_out():
    generator = np.random.default_rng(1)
    basis = np.linalg.qr(generator.normal(size=(5, 5)))[0]
    covariance = basis @ np.diag([4.0, 1.0, 0.25, 1e-14, 0.0]) @ basis.T
    matrix = whitening(covariance)
    assert matrix.shape == (5, 3)
    np.testing.assert_allclose(
        matrix @ matrix.T, np.linalg.pinv(covariance, rcond=1e-10), atol=1e-9
    )
    assert whitening(covariance, shrinkage=0.1).shape == (5, 5)
    assert whitening(covariance, cutoff=0.1).shape == (5, 2)
    assert whitening(covariance, shrinkage=0.1, cutoff=0.1).shape == (5, 2)
    assert whitening(np.zeros((2, 2))).shape == (2, 0)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_equal_features_have_no_covariance_however_sums_round(
    scale, offset, copies, rounding
):
    """Whatever the kernels of the machine leave of a difference of large sums."""
    generator = np.random.default_rng(0)
    labels = np.tile(np.arange(4), copies)
    features = scale * (offset + generator.normal(size=(4, 12))[labels])
    features *= 1 + rounding * generator.uniform(-1, 1, features.shape)
    sums = ClassSums(4, 12)
    # In parts of other sizes, so that sums are not made alike.
    for rows in np.split(np.arange(len(labels)), [1, 3, 4]):
        sums.add(features[rows].astype(np.float32), labels[rows])
    for shrinkage in (0.0, 0.1):
        with pytest.raises(ValueError, match="more images of each class"):
            gaussian.fit(sums, 4, shrinkage, 0.0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_small_but_real_variance_is_kept(scale):
    generator = np.random.default_rng(0)
    # A ten-thousandth of the features' size, a hundred times their rounding.
    features = scale * (1000 + 0.1 * generator.normal(size=(400, 6)))
    sums = summed(features.astype(np.float32), np.arange(400) % 4)
    assert gaussian.fit(sums, 4, 0.0, 0.0)["whitening"].shape == (6, 6)


def test_correct_means_fall_back_to_all_rows():
    rows = np.array([[1.0], [3.0], [10.0], [20.0]])
    means = CorrectMeans(2, 1)
    means.add(rows, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 0]))
    np.testing.assert_array_equal(means.means(), [[1.0], [15.0]])
    np.testing.assert_array_equal(means.has_correct(), [True, False])


def test_a_sample_is_uniform_bounded_and_blind_to_batches():
    def sampled(batch_size):
        sample = Sample(100, seed=3)
        for start in range(0, 5000, batch_size):
            rows = np.arange(start, min(start + batch_size, 5000))
            sample.add(rows=rows, doubled=2 * rows)
            assert sum(map(len, sample._keys)) <= 200 + batch_size
        return sample.rows()

    first, second = sampled(7), sampled(1000)
    assert len(first["rows"]) == 100
    np.testing.assert_array_equal(first["rows"], second["rows"])
    np.testing.assert_array_equal(first["doubled"], 2 * first["rows"])
    # The mean of 100 of 0..4999 has a standard deviation of 144.
    assert abs(first["rows"].mean() - 2499.5) < 600


def test_a_sample_keeps_all_of_a_short_stream():
    sample = Sample(10)
    sample.add(rows=np.arange(4))
    np.testing.assert_array_equal(sample.rows()["rows"], np.arange(4))
    assert Sample(10).rows() == {}


def sampled_in_parts(order, capacity, num_rows=5000, num_parts=4):
    samples = []
    for shard, rows in enumerate(np.array_split(np.arange(num_rows), num_parts)):
        sample = Sample(capacity, seed=3, shard=shard)
        for batch in np.array_split(rows, 1 + shard):
            sample.add(rows=batch)
        samples.append(sample)
    merged = samples[order[0]]
    for shard in order[1:]:
        merged.merge(samples[shard])
    return merged.rows()["rows"]


def test_samples_of_parts_merge_into_one_of_the_whole():
    found = sampled_in_parts([0, 1, 2, 3], 100)
    assert len(found) == len(set(found.tolist())) == 100
    # Each part of the stream has its share: 25, with a standard deviation of 4.
    shares = np.bincount(found // 1250, minlength=4)
    assert shares.min() > 8 and abs(found.mean() - 2499.5) < 600
    # In any order, or in pairs, the same rows.
    for order in ([3, 1, 0, 2], [2, 3, 1, 0]):
        np.testing.assert_array_equal(
            np.sort(sampled_in_parts(order, 100)), np.sort(found)
        )
    # One that keeps everything is everything, in the order of merging.
    np.testing.assert_array_equal(sampled_in_parts([0, 1, 2, 3], 5000), np.arange(5000))


def test_rows_that_a_part_would_have_dropped_do_not_come_in_by_merging():
    """A part with a limit has dropped rows above it, so none above it may be kept."""
    full, small = Sample(10, seed=0), Sample(10, seed=0, shard=1)
    full.add(rows=np.arange(10_000))
    full.rows()
    small.add(rows=np.arange(10_000, 10_005))
    full.merge(small)
    rows = full.rows()["rows"]
    # Of five images beside ten thousand, hardly one belongs into ten.
    assert len(rows) <= 10 and np.sum(rows >= 10_000) <= 1


@pytest.mark.parametrize("capacity", [1, 5, 64, 1000])
@pytest.mark.parametrize("sizes", [[400], [1] * 400, [3, 90, 1, 300, 6]])
@pytest.mark.parametrize("num_keys", [7, 10**6])
def test_the_smallest_are_those_of_a_stable_sort(capacity, sizes, num_keys):
    generator = np.random.default_rng(capacity)
    keys = generator.integers(0, num_keys, 400) / num_keys
    values = generator.normal(size=(400, 2, 3)).astype(np.float32)
    smallest, start = Smallest(capacity), 0
    for size in sizes:
        part = slice(start, start + size)
        smallest.add(keys[part], values=values[part], index=np.arange(400)[part])
        before = smallest.rows["index"]
        start += size
    order = np.argsort(keys, kind="stable")[:capacity]
    np.testing.assert_array_equal(smallest.keys, keys[order])
    np.testing.assert_array_equal(smallest.rows["index"], order)
    np.testing.assert_array_equal(smallest.rows["values"], values[order])
    # What was read is not written to later.
    smallest.add(np.array([-1.0]), values=values[:1], index=np.array([-1]))
    np.testing.assert_array_equal(before, order)


def test_the_smallest_have_the_same_rows_each_time():
    smallest = Smallest(3)
    smallest.add(np.zeros(2), index=np.arange(2))
    with pytest.raises(ValueError, match="expected rows named index"):
        smallest.add(np.zeros(2), images=np.zeros((2, 4)))
