import numpy as np
import pytest

from ood_keras.detectors import gaussian
from ood_keras.detectors.statistics import (
    ClassSums,
    CorrectMeans,
    Sample,
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
