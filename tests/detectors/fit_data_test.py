"""What `fit` takes and refuses to learn from, and how often it walks over it."""

import keras
import numpy as np
import pytest
from keras import layers

from ood_keras import detectors, evaluation

LEARNING = [
    name
    for name in detectors.names()
    # Learns nothing, and JAX may not have the float64 that it needs.
    if name not in ("differential_entropy", "ensemble") and detectors.get(name).learns
]


@pytest.fixture(scope="module")
def linear(data):
    """A network that hands NaN and infinite pixels on."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(6), layers.Dense(3)]
    )


@pytest.fixture(scope="module")
def swallowing(data):
    """A network whose ReLU and maximum may lose them on their way."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPool2D(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


@pytest.fixture(scope="module", params=[np.nan, np.inf])
def strange(request, data):
    """Training data with one such image."""
    images = data.train[0].copy()
    images[200, 4, 4] = request.param
    return images, data.train[1]


@pytest.mark.parametrize("name", LEARNING)
def test_an_image_without_finite_features_is_no_teacher(linear, strange, name):
    detector = detectors.get(name)
    with pytest.raises(ValueError, match="1 of 256 images in a batch of `data`"):
        detector.fit(linear, strange)
    # Labelled as unknown, it is left out.
    images, labels = strange
    labels = np.where(np.arange(300) == 200, -1, labels)
    scores = detector.fit(linear, (images, labels)).score(images[:200])
    assert np.all(np.isfinite(scores))


@pytest.mark.parametrize("name", [*LEARNING, "ensemble", "energy"])
def test_what_a_network_loses_of_bad_pixels_is_seen(swallowing, strange, data, name):
    detector = detectors.get(name, num_classes=3)
    if detector.learns:
        with pytest.raises(ValueError, match="1 of 256 images in a batch of `data`"):
            detector.fit(swallowing, strange)
    scores = detector.fit(swallowing, data.train).score(strange[0])
    assert np.flatnonzero(~np.isfinite(scores)).tolist() == [200]
    assert np.isnan(scores[200])


def test_bad_pixels_set_no_scale_and_weigh_no_layers(swallowing, strange, data):
    outputs_only = detectors.get("ensemble", detectors=["energy", "msp"], num_classes=3)
    with pytest.raises(ValueError, match="1 of 256 images in a batch of `data`"):
        outputs_only.fit(swallowing, strange)
    mahalanobis = detectors.get("mahalanobis").fit(swallowing, data.train)
    with pytest.raises(ValueError, match="1 of 256 images in a batch of `unknown`"):
        mahalanobis.weigh_layers(data.known, strange[0])


def test_bad_pixels_are_not_evaluated(swallowing, strange, data):
    energy = detectors.get("energy", num_classes=3).fit(swallowing)
    with pytest.raises(ValueError, match="NaN for 1 of 300 images"):
        evaluation.evaluate(
            {"energy": energy},
            known=("known", data.train),
            unknown={"strange": strange[0]},
            validation_known=data.known,
            validation_unknown=data.unknown,
        )


@pytest.mark.parametrize("name", ["gram", "ensemble"])
def test_a_scale_is_not_set_on_bad_validation_images(linear, strange, data, name):
    detector = detectors.get(name)
    for validation, message in (
        (strange, "1 of 256 images in a batch of `validation`"),
        ((data.known[:0], data.train[1][:0]), "`validation` holds no known image"),
        ((data.known, np.full(60, -1)), "`validation` holds no known image"),
        (iter([data.train]), "`validation` can be walked over only once"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.fit(linear, data.train, validation)


class Walked:
    """Batches of training data that count how often they are walked over."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        self.count = 0

    def __iter__(self):
        self.count += 1
        for start in range(0, len(self.images), 50):
            rows = slice(start, start + 50)
            yield self.images[rows], self.labels[rows]


@pytest.mark.parametrize("name", detectors.names())
def test_data_is_walked_over_once(trained, data, name):
    model = trained[4 if name == "unknown_probability" else 3]
    detector = detectors.get(name, num_classes=3)
    # An ensemble fits its members that learn, one of the usual two, then sets scales.
    is_ensemble = isinstance(detector, detectors.Ensemble)
    expected = 2 if is_ensemble else int(detector.learns)
    walked = Walked(*data.train)
    detector.fit(model, walked)
    assert walked.count == expected
    # One more walk tells the number of classes.
    walked = Walked(*data.train)
    detectors.get(name).fit(model, walked)
    assert walked.count == expected + 1


def test_an_ensemble_sets_its_scale_on_validation_in_one_walk(trained, data):
    ensemble = detectors.get("ensemble", detectors=["knn", "energy"], num_classes=3)
    training, validation = Walked(*data.train), Walked(data.known, np.arange(60) % 3)
    ensemble.fit(trained[3], training, validation)
    assert (training.count, validation.count) == (1, 1)


@pytest.mark.kernels
@pytest.mark.parametrize("name", ["mahalanobis", "relative_mahalanobis"])
def test_classes_of_one_image_have_no_covariance(trained, data, name):
    first = np.unique(data.train[1], return_index=True)[1]
    alike = tuple(part[first] for part in data.train)
    with pytest.raises(ValueError, match="more images of each class"):
        detectors.get(name).fit(trained[3], alike)


@pytest.mark.kernels
def test_classes_of_the_same_images_have_no_place(trained, data):
    images = data.train[0][:100]
    same = np.tile(images, (3, 1, 1, 1)), np.repeat([0, 1, 2], 100)
    with pytest.raises(ValueError, match="all classes have the same mean"):
        detectors.get("relative_mahalanobis").fit(trained[3], same)
    detectors.get("mahalanobis").fit(trained[3], same)


@pytest.fixture(scope="module")
def nearly_equal(data):
    """One image of class 0, three hundred times, apart from rounding."""
    rounding = np.random.default_rng(0).uniform(-1e-7, 1e-7, (300, 8, 8, 1))
    images = data.train[0][:1] * (1 + rounding.astype(np.float32))
    return images, np.zeros(300, int)


@pytest.mark.kernels
def test_rounding_of_a_constant_score_is_no_scale(trained, data, nearly_equal):
    members = ["energy", "max_logit"]
    ensemble = detectors.get("ensemble", detectors=members, num_classes=3)
    arrays = ensemble.fit(trained[3], nearly_equal).get_arrays()
    np.testing.assert_array_equal(arrays["deviation"], 1.0)
    mahalanobis = detectors.get("mahalanobis").fit(trained[3], data.train)
    mahalanobis.weigh_layers(nearly_equal, nearly_equal[0])
    weight = mahalanobis.get_arrays()["weights"]
    assert np.all(np.abs(weight) < 1.0)


@pytest.mark.kernels
def test_rounding_at_the_ends_of_a_range_is_no_scale(trained, nearly_equal):
    first = nearly_equal[0][:30], nearly_equal[1][:30]
    gram = detectors.get("gram", quantile=0.0, num_classes=3)
    arrays = gram.fit(trained[3], first, validation=nearly_equal).get_arrays()
    np.testing.assert_array_equal(arrays["scale"], 1.0)


@pytest.mark.kernels
def test_rounding_of_equal_features_is_no_residual(trained, data, nearly_equal):
    usual = detectors.get("vim", origin="mean", num_classes=3)
    usual = usual.fit(trained[3], data.train).score(data.unknown)
    vim = detectors.get("vim", origin="mean", num_classes=3)
    scores = vim.fit(trained[3], nearly_equal).score(nearly_equal[0])
    assert np.all(np.isfinite(scores))
    # Of the same image: not what rounding left, multiplied until it counts.
    assert np.ptp(scores) < 0.1 * np.ptp(usual)


@pytest.mark.kernels
@pytest.mark.parametrize("origin", ["head", "mean"])
def test_nearly_equal_columns_of_the_head_have_no_place(
    make_form, data, origin, nearly_equal
):
    model = make_form("functional", 3)
    kernel, bias = model.layers[-1].get_weights()
    kernel[:, 1] = np.nextafter(kernel[:, 0], np.float32(np.inf))
    model.layers[-1].set_weights([kernel, bias + np.array([0, 1, 0], np.float32)])
    inverse = detectors.get("fdbd").fit(model, data.train).get_arrays()
    assert inverse["inverse_lengths"][0, 1] == inverse["inverse_lengths"][1, 0] == 0
    vim = detectors.get("vim", origin=origin).fit(model, data.train).get_arrays()
    assert np.linalg.norm(vim["origin"]) < 1e3


@pytest.mark.kernels
def test_features_at_the_mean_are_at_no_small_distance(trained, nearly_equal):
    fdbd = detectors.get("fdbd", num_classes=3).fit(trained[3], nearly_equal)
    scores = fdbd.score(nearly_equal[0])
    np.testing.assert_allclose(scores, scores.mean(), rtol=1e-3)


@pytest.mark.kernels
def test_openmax_tells_small_distances_of_large_logits(trained, data):
    """The square root of a difference of large squares has no digits left."""
    means = 1000.0 + 10.0 * np.eye(3)
    arrays = {
        "means": means,
        "start": np.full(3, 0.01),
        "shape": np.full(3, 2e5),
        "log_scale": np.full(3, 5e-6),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    openmax = detectors.get("openmax").restore(trained[3], arrays, 3)
    logits = means + np.array([[0.0, 0.0, 0.0], [0.0625, 0, 0], [0.125, 0, 0]])
    scores = openmax.score_outputs({"logits": logits.astype(np.float32)})
    assert np.isfinite(scores).all() and np.all(np.diff(scores) > 1.0)


@pytest.mark.kernels
@pytest.mark.parametrize(
    "name", ["she", "knn", "vim", "openmax", "nnguide", "fdbd", "core"]
)
def test_one_image_per_class_is_enough_for_the_others(trained, data, name):
    first = np.unique(data.train[1], return_index=True)[1]
    few = tuple(part[first] for part in data.train)
    arguments = {"k": 1} if name in ("knn", "nnguide") else {}
    scores = detectors.get(name, **arguments).fit(trained[3], few).score(data.unknown)
    assert np.all(np.isfinite(scores))


@pytest.mark.kernels
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in LEARNING
        # No distance can be measured where nothing varies.
        if not any(word in name for word in ("mahalanobis", "distances", "combood"))
    ],
)
def test_a_dead_network_gives_finite_scores(make_form, data, name):
    model = make_form("functional", 3)
    model.set_weights([np.zeros_like(value) for value in model.get_weights()])
    scores = detectors.get(name).fit(model, data.train).score(data.unknown)
    assert np.all(np.isfinite(scores))


def test_layers_are_weighed_on_known_and_unknown_images(trained, data):
    detector = detectors.get("mahalanobis").fit(trained[3], data.train)
    weights = detector.weigh_layers(data.known, data.unknown).get_arrays()["weights"]
    # Images labelled as unknown are not known ones; labels of unknown ones are free.
    mixed = (
        np.concatenate([data.unknown, data.known]),
        np.repeat([-1, 0], [60, 60]),
    )
    detector.weigh_layers(mixed, (data.unknown, np.array(["letter"] * 60)))
    np.testing.assert_allclose(detector.get_arrays()["weights"], weights, rtol=1e-3)
    with pytest.raises(ValueError, match="`known` holds no known image"):
        detector.weigh_layers((data.unknown, np.full(60, -1)), data.unknown)
    with pytest.raises(ValueError, match="`unknown` holds no unknown image"):
        detector.weigh_layers(data.known, [])


def test_scores_do_not_depend_on_labels(trained, data):
    detector = detectors.get("msp", num_classes=3).fit(trained[3])
    expected = detector.score(data.known)
    for labels in (np.eye(3)[np.arange(60) % 3], np.array(["cat"] * 60)):
        np.testing.assert_array_equal(detector.score((data.known, labels)), expected)


def test_other_arguments_are_refused():
    with pytest.raises(TypeError, match="temprature; expected some of: features,"):
        detectors.get("energy", temprature=2.0)
    with pytest.raises(TypeError, match="bank_size, features, k, logits, normalize"):
        detectors.get("knn", neighbours=5)
    for name, arguments in (
        ("odin", {"temperature": 0}),
        ("odin", {"detector": ""}),
        ("knn", {"k": None}),
        ("gram", {"quantile": None}),
        ("dice", {"sparsity": "0.9"}),
    ):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            detectors.get(name, **arguments)


def test_what_is_no_model_is_refused(data):
    for images in (None, data.train):
        with pytest.raises(TypeError, match=r"must be a keras\.Model"):
            detectors.get("msp", num_classes=3).fit(lambda image: image, images)
