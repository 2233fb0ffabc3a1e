"""CORE where a residual, its direction or its spread is missing."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from ood_keras import detectors

ORTHOGONAL_TO = ["predicted", "all"]


def small_network(num_features, kernel):
    """Features that are the first pixels, and a head of these weights `(D, N)`."""
    model = keras.Sequential(
        [
            keras.Input((1, 4, 1)),
            layers.Flatten(),
            layers.Dense(num_features, use_bias=False),
            layers.Dense(np.shape(kernel)[1], use_bias=False),
        ]
    )
    kernel = np.asarray(kernel, np.float32)
    model.set_weights([np.eye(4, num_features, dtype=np.float32), kernel])
    return model


def images_of(features):
    """Images of which `small_network` makes these features, `(n, D)`."""
    features = np.asarray(features, np.float32)
    padded = np.pad(features, ((0, 0), (0, 4 - features.shape[1])))
    return padded[:, None, :, None]


def made_data(seed=0):
    """Two classes: a weight of their own, and a direction of their own beside it."""
    generator = np.random.default_rng(seed)
    labels = np.arange(60) % 2
    features = np.eye(4)[labels] + np.eye(4)[labels + 2]
    features = features + generator.normal(0, 0.1, features.shape)
    return images_of(features), labels


KERNEL = np.eye(4)[:, :2]


def score_of(detector, features):
    return detector.score(images_of(features))


@pytest.mark.parametrize("orthogonal_to", ORTHOGONAL_TO)
def test_a_residual_of_the_other_class_is_strange(orthogonal_to):
    detector = detectors.get("core", orthogonal_to=orthogonal_to)
    detector.fit(small_network(4, KERNEL), made_data())
    # The same logits, and so the same energy.
    own, of_both, other = score_of(
        detector, [[1, 0, 1, 0], [1, 0, 0.7, 0.7], [1, 0, 0, 1]]
    )
    assert own < of_both < other
    # Nor does the length of the residual matter.
    np.testing.assert_allclose(score_of(detector, [[1, 0, 9, 0]]), own, rtol=1e-4)


@pytest.mark.parametrize("orthogonal_to", ORTHOGONAL_TO)
def test_what_all_classes_weigh_is_no_residual(orthogonal_to):
    detector = detectors.get("core", orthogonal_to=orthogonal_to)
    detector.fit(small_network(4, KERNEL), made_data())
    images = images_of([[1, 0, 1, 0], [1, 0.5, 1, 0]])
    outputs = detector.call(ops.convert_to_tensor(images))
    energy = -np.logaddexp.reduce(ops.convert_to_numpy(outputs["logits"]), axis=1)
    mean, deviation = (
        detector.get_arrays()[f"score_{name}"] for name in ("means", "deviations")
    )
    cosines = mean[1] + deviation[1] * (
        (energy - mean[0]) / deviation[0] - ops.convert_to_numpy(outputs["ood_score"])
    )
    if orthogonal_to == "all":
        np.testing.assert_allclose(cosines[1], cosines[0], atol=1e-5)
    else:
        assert cosines[1] < cosines[0] - 0.05


@pytest.mark.parametrize("orthogonal_to", ORTHOGONAL_TO)
def test_an_image_without_a_residual_has_no_direction(orthogonal_to):
    detector = detectors.get("core", orthogonal_to=orthogonal_to)
    detector.fit(small_network(4, KERNEL), made_data())
    arrays = detector.get_arrays()
    for size in (0.0, 1e-20, 1.0, 1e6):
        (score,) = score_of(detector, [[size, 0, 0, 0]])
        energy = -np.logaddexp(size, 0)
        terms = (np.array([energy, 0]) - arrays["score_means"]) / arrays[
            "score_deviations"
        ]
        np.testing.assert_allclose(score, terms[0] - terms[1], rtol=1e-4)
    # What rounding leaves of a residual is none: its cosine would be -0.7.
    without, nearly, small = score_of(
        detector, [[1, 0, 0, 0], [1, 0, -1e-8, 1e-8], [1, 0, -1e-4, 1e-4]]
    )
    assert abs(nearly - without) < 0.02 * abs(small - without)


@pytest.mark.parametrize("orthogonal_to", ORTHOGONAL_TO)
def test_without_a_direction_of_any_class_the_energy_decides(orthogonal_to):
    images, labels = made_data()
    images[:, :, 2:] = 0
    if orthogonal_to == "predicted":
        images[:, :, 1] = images[:, :, 0] * (labels == 0)[:, None, None]
        images[:, :, 0] = 0
        images[labels == 1, 0, 0] = 1
        images = np.where(np.arange(4)[:, None] == labels[:, None, None, None], 1, 0.0)
        images = (images * np.linspace(1, 2, 60)[:, None, None, None]).astype("float32")
    detector = detectors.get("core", orthogonal_to=orthogonal_to)
    detector.fit(small_network(4, KERNEL), (images, labels))
    arrays = detector.get_arrays()
    np.testing.assert_array_equal(arrays["directions"], 0)
    assert arrays["score_deviations"][1] == 1
    energy = detectors.get("energy", num_classes=2).fit(detector.network.model)
    order = np.argsort(detector.score(images), kind="stable")
    assert np.all(np.diff(energy.score(images)[order]) > -1e-5)


def test_what_the_weights_leave_nothing_of_is_refused():
    images, labels = made_data()
    for num_features, kernel in ((2, np.eye(2)), (2, [[1, 0, 1], [0, 1, 1]])):
        model = small_network(num_features, kernel)
        detector = detectors.get(
            "core", orthogonal_to="all", num_classes=np.shape(kernel)[1]
        )
        with pytest.raises(
            ValueError, match=r"leave no direction of the 2 .*orthogonal_to='predicted'"
        ):
            detector.fit(model, (images, labels))
    with pytest.raises(ValueError, match=r"of the 1 features .* Take another detector"):
        detectors.get("core").fit(small_network(1, [[1, -1]]), (images, labels))
    # Equal weights span one direction.
    model = small_network(2, [[1, 1], [0, 0]])
    detector = detectors.get("core", orthogonal_to="all").fit(model, (images, labels))
    assert np.all(np.isfinite(detector.score(images)))


@pytest.mark.parametrize("orthogonal_to", ORTHOGONAL_TO)
def test_one_weight_serves_both_classes_of_a_sigmoid(orthogonal_to):
    images, labels = made_data()
    model = small_network(4, [[-1], [1], [0], [0]])
    detector = detectors.get("core", orthogonal_to=orthogonal_to)
    detector.fit(model, (images, labels))
    directions = detector.get_arrays()["directions"]
    np.testing.assert_allclose(directions @ [-1, 1, 0, 0], 0, atol=1e-5)
    own, other = score_of(detector, [[1, 0, 1, 0], [1, 0, 0, 1]])
    assert own < other


def test_labels_are_needed():
    images, _ = made_data()
    with pytest.raises(ValueError, match="needs labelled images"):
        detectors.get("core", num_classes=2).fit(small_network(4, KERNEL), images)


def test_parts_in_float64_are_the_whole():
    images, labels = made_data()
    model = small_network(4, KERNEL)
    detector = detectors.get("core", num_classes=2)
    whole = detector.fit(model, (images, labels)).get_arrays()
    parts = [
        detector.collect(model, (images[rows], labels[rows]), shard=number)
        for number, rows in enumerate((slice(0, 7), slice(7, 60)))
    ]
    merged = detectors.merge(parts)
    means = [
        each.statistics["means"].means()
        for each in (merged, detector.collect(model, (images, labels)))
    ]
    np.testing.assert_allclose(means[0], means[1], rtol=0, atol=1e-9)
    for name, array in detector.learn(model, merged).get_arrays().items():
        # Kept as float32.
        np.testing.assert_allclose(array, whole[name], rtol=0, atol=1e-6)


@pytest.mark.kernels
@pytest.mark.parametrize("orthogonal_to", ORTHOGONAL_TO)
def test_rounding_of_equal_images_sets_no_scale(trained, data, orthogonal_to):
    noise = np.random.default_rng(0).uniform(-1e-7, 1e-7, (300, 8, 8, 1))
    images = data.train[0][:1] * (1 + noise.astype(np.float32))
    for features in (images, np.repeat(data.train[0][:1], 300, axis=0)):
        detector = detectors.get("core", orthogonal_to=orthogonal_to, num_classes=3)
        # Each class needs an image.
        detector.fit(trained[3], (features, np.arange(300) % 3))
        arrays = detector.get_arrays()
        np.testing.assert_array_equal(arrays["score_deviations"], 1)
        assert np.all(np.isfinite(detector.score(data.unknown)))
