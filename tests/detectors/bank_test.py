import keras
import numpy as np
import pytest

from ood_keras.detectors import bank


# 10,000 and 4,096 values are searched in groups, with and without values left over.
@pytest.mark.parametrize(
    "num_values, k",
    [(5, 1), (5, 5), (640, 10), (641, 10), (4096, 64), (10_000, 1), (10_007, 10)],
)
def test_largest_finds_what_sorting_finds(num_values, k):
    values = np.random.default_rng(k).normal(size=(9, num_values)).astype(np.float32)
    values[0] = np.sort(values[0])
    values[1] = np.sort(values[1])[::-1]
    found, indices = map(
        keras.ops.convert_to_numpy, bank.largest(keras.ops.convert_to_tensor(values), k)
    )
    np.testing.assert_array_equal(found, -np.sort(-values, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(values, indices, axis=1), found)


def test_largest_with_ties_counts_each_value_as_often_as_it_is_there():
    random = np.random.default_rng(0)
    values = random.integers(0, 4, size=(50, 3000)).astype(np.float32)
    values[0] = 1
    values[1, :5] = np.inf
    found, indices = map(
        keras.ops.convert_to_numpy, bank.largest(keras.ops.convert_to_tensor(values), 7)
    )
    np.testing.assert_array_equal(found, -np.sort(-values, axis=1)[:, :7])
    assert all(len(set(row)) == 7 for row in indices)
