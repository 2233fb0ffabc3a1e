"""What single detectors learn and refuse; the mistakes of other libraries."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from ood_keras import detectors


def test_any_number_of_channels_can_be_perturbed():
    images = np.random.default_rng(0).uniform(size=(20, 6, 6, 5)).astype(np.float32)
    model = keras.Sequential(
        [keras.Input((6, 6, 5)), layers.Flatten(), layers.Dense(3)]
    )
    for name, arguments in (
        ("odin", {"epsilon": 0.01}),
        ("mahalanobis", {"perturbation": 0.01}),
    ):
        detector = detectors.get(name, **arguments)
        scores = detector.fit(model, (images, np.arange(20) % 3)).score(images)
        assert np.all(np.isfinite(scores))


def test_perturbing_detectors_say_that_they_need_the_saved_model():
    for detector in (
        detectors.get("odin"),
        detectors.get("mahalanobis", perturbation=0.1),
        detectors.get("ensemble", detectors=["odin", "energy"]),
    ):
        assert detector.changes_input
        assert detector.exports == ("saved_model",)
    for detector in (
        detectors.get("odin", epsilon=0.0),
        detectors.get("mahalanobis"),
        detectors.get("ensemble"),
    ):
        assert not detector.changes_input
        assert "tflite" in detector.exports


def test_an_image_whose_features_are_zero_is_not_moved(data):
    detector = {"name": "objectosphere", "on": "features"}
    keras.utils.set_random_seed(0)
    linear = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(6, use_bias=False),
            layers.Dense(3),
        ]
    )
    images = np.concatenate([np.zeros((1, 8, 8, 1), np.float32), data.known])
    odin = detectors.get("odin", detector=detector, epsilon=0.01)
    scores = odin.fit(linear, data.train).score(images)
    still = detectors.get("odin", detector=detector, epsilon=0.0)
    expected = still.fit(linear, data.train).score(images)
    assert scores[0] == expected[0] == 0.0
    assert np.all(scores[1:] < expected[1:])


def test_features_of_zero_length_have_a_finite_distance(trained, data):
    network = detectors.Network(trained[3])
    for name in ("knn", "nnguide"):
        detector = detectors.get(name).fit(trained[3], data.train)
        outputs = network(data.known)
        outputs["features"] = ops.zeros_like(outputs["features"])
        scores = ops.convert_to_numpy(detector.score_outputs(outputs))
        assert np.all(np.isfinite(scores))


def test_a_bank_has_a_cap_and_a_seed(trained, data):
    banks = [
        detectors.get("knn", k=3, bank_size=50, seed=seed)
        .fit(trained[3], data.train)
        .get_arrays()["bank"]
        for seed in (0, 0, 1)
    ]
    assert banks[0].shape == (50, 12)
    np.testing.assert_array_equal(banks[0], banks[1])
    assert not np.array_equal(banks[0], banks[2])
    with pytest.raises(ValueError, match="k=60"):
        detectors.get("knn", k=60, bank_size=50).fit(trained[3], data.train)


def test_weighed_layers_separate_at_least_as_well(trained, data, tmp_path):
    names = ["functional_convolution", "functional_hidden"]
    detector = detectors.get("mahalanobis", layers=names).fit(trained[3], data.train)
    before = detector.score(data.known)
    known, unknown = data.known[::2], data.unknown[::2]
    assert detector.weigh_layers(known, unknown) is detector
    assert not np.allclose(detector.score(data.known), before)
    held_out = detector.score(data.known[1::2]), detector.score(data.unknown[1::2])
    assert np.mean(held_out[1][:, None] > held_out[0]) > 0.95
    loaded = detectors.load(detectors.save(detector, tmp_path), trained[3])
    np.testing.assert_array_equal(loaded.score(data.known), detector.score(data.known))
    # A new fit forgets the weights.
    np.testing.assert_array_equal(
        detector.fit(trained[3], data.train).score(data.known), before
    )


def test_gram_sets_its_scale_on_validation_images(trained, data):
    gram = detectors.get("gram")
    held_out = gram.fit(trained[3], data.train).get_arrays()["scale"]
    validation = (data.known, np.arange(60) % 3)
    scale = gram.fit(trained[3], data.train, validation).get_arrays()["scale"]
    assert scale.shape == held_out.shape == (2,)
    assert not np.allclose(scale, held_out)
    with pytest.raises(ValueError, match="10 images"):
        gram.fit(trained[3], (data.train[0][:9], data.train[1][:9]))


def silent_channel(firing):
    """A network with features `(1, 0)`, and `(1, 1)` where the image is bright."""
    inputs = keras.Input((4, 4, 1))
    mean = layers.GlobalAveragePooling2D()(inputs)
    dense = layers.Dense(2, activation="relu", name="hidden")
    logits = layers.Dense(3)
    model = keras.Model(inputs, logits(dense(mean)))
    # The second unit is silent up to a mean of 0.75.
    dense.set_weights([np.array([[0.0, firing]]), np.array([1.0, -0.75 * firing])])
    logits.set_weights([np.array([[1.0, 0, 0], [0, 0, 0]]), np.zeros(3)])
    return model


def test_a_channel_that_known_images_leave_silent_does_not_decide_alone_in_gram():
    images = np.random.default_rng(0).uniform(0, 0.7, (40, 4, 4, 1)).astype(np.float32)
    bright = np.ones((1, 4, 4, 1), np.float32)
    scores = []
    for firing in (1e-3, 1.0):
        gram = detectors.get("gram", num_powers=1, num_classes=3)
        gram.fit(silent_channel(firing), images)
        assert np.all(gram.score(images) == 0)
        scores += list(gram.score(bright))
    # The authors' 1e-6 alone would make it 250 beside a layer whose usual value is 1.
    assert 0 < scores[0] < 0.1
    # A clear answer of a silent unit still counts.
    assert scores[1] > 10


def test_gram_as_it_was_saved_before_keeps_its_numbers(trained, data):
    gram = detectors.get("gram").fit(trained[3], data.train)
    arrays = gram.get_arrays()
    earlier = {
        name: values
        for name, values in arrays.items()
        if not name.startswith("smallest")
    }
    assert len(earlier) == len(arrays) - 2
    outputs = gram.network(ops.convert_to_tensor(data.known), gram.layers)
    read = gram._read(outputs)
    expected = np.zeros(len(data.known))
    for index, values in enumerate(map(ops.convert_to_numpy, read["statistics"])):
        low, high = (
            np.array(read["predicted"]) @ arrays[f"{end}_{index}"]
            for end in ("low", "high")
        )
        below = np.maximum(low - values, 0) / (np.abs(low) + 1e-6)
        above = np.maximum(values - high, 0) / (np.abs(high) + 1e-6)
        expected += (below + above).sum(axis=1) / arrays["scale"][index]
    restored = detectors.get("gram").restore(trained[3], earlier, num_classes=3)
    np.testing.assert_allclose(restored.score(data.known), expected, rtol=1e-4)


def test_data_without_labels_serves_where_labels_are_not_needed(trained, data):
    images, _ = data.train
    knn = detectors.get("knn", num_classes=3).fit(trained[3], images)
    np.testing.assert_array_equal(
        knn.score(data.known),
        detectors.get("knn").fit(trained[3], data.train).score(data.known),
    )
    with pytest.raises(ValueError, match="labelled"):
        detectors.get("mahalanobis", num_classes=3).fit(trained[3], images)


def test_the_logarithm_of_distances_ranks_alike_and_refuses_weights(trained, data):
    plain = detectors.get("mahalanobis").fit(trained[3], data.train)
    light = detectors.get("mahalanobis", logarithm=True).fit(trained[3], data.train)
    images = data.known
    np.testing.assert_allclose(
        light.score(images), np.log1p(plain.score(images)), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="no logarithm"):
        light.weigh_layers(data.known, data.unknown)


def test_one_strange_known_image_does_not_hide_the_outputs(trained, data):
    """With distances as they are, it decides their scale."""
    images = data.known
    strange = np.concatenate([images, np.ones_like(images[:1])])
    validation = strange, np.zeros(len(strange), int)
    weights = {}
    for name in ("probability_and_distances", "probability_and_log_distances"):
        detector = detectors.get(name).fit(trained[3], data.train, validation)
        by_outputs, by_distances = (
            member.score(images) / deviation
            for member, deviation in zip(
                detector.detectors, detector.arrays["deviation"], strict=True
            )
        )
        weights[name] = by_distances.std() / by_outputs.std()
    assert (
        weights["probability_and_log_distances"] > weights["probability_and_distances"]
    )


@pytest.mark.parametrize(
    "name", ["mahalanobis", "relative_mahalanobis", "she", "openmax", "core"]
)
def test_an_empty_class_is_named(trained, data, name):
    images, labels = data.train
    kept = labels != 1
    with pytest.raises(ValueError, match="class 1"):
        detectors.get(name).fit(trained[3], (images[kept], labels[kept]))


@pytest.mark.parametrize(
    "name",
    ["vim", "fdbd", "react", "ash", "scale", "dice", "nci", "vra", "weiper", "core"],
)
def test_detectors_of_the_head_say_that_they_need_one(trained, data, name):
    detector = detectors.get(name, features="functional_convolution")
    with pytest.raises(ValueError, match="Dense layer"):
        detector.fit(trained[3], data.train)


@pytest.mark.parametrize("name", ["mahalanobis", "knn"])
def test_a_projection_has_no_more_directions_than_features(trained, data, name):
    detectors.get(name, projection=12).fit(trained[3], data.train)
    with pytest.raises(ValueError, match="at most the number of features, 12"):
        detectors.get(name, projection=13).fit(trained[3], data.train)


def test_a_projection_on_all_directions_changes_no_distance(trained, data):
    for name in ("mahalanobis", "knn", "nnguide", "she"):
        plain = detectors.get(name).fit(trained[3], data.train)
        turned = detectors.get(name, projection=12).fit(trained[3], data.train)
        np.testing.assert_allclose(
            turned.score(data.unknown), plain.score(data.unknown), rtol=1e-3, atol=1e-3
        )


def test_combood_needs_features_that_differ(trained, data):
    same = np.repeat(data.train[0][:1], 20, axis=0), np.zeros(20, int)
    with pytest.raises(ValueError, match="the same features"):
        detectors.get("combood", num_classes=3).fit(trained[3], same)


def test_combood_stays_finite_far_from_all_known_images(trained, data):
    detector = detectors.get("combood", normalize=False).fit(trained[3], data.train)
    far = np.ones((3, 12), np.float32) * np.array([[1e2], [1e4], [1e6]], np.float32)
    for features in (far, -far):
        outputs = {"features": ops.convert_to_tensor(features)}
        scores = ops.convert_to_numpy(detector.score_outputs(outputs))
        assert np.all(np.isfinite(scores))
        assert np.all(scores > detector.score(data.known).max())


def test_weiper_tells_densities_of_many_features_apart(data):
    keras.utils.set_random_seed(0)
    wide = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(3),
        ]
    )
    detector = detectors.get("weiper", num_repeats=10).fit(wide, data.train)
    generator = np.random.default_rng(0)
    noise = generator.uniform(size=data.known.shape).astype(np.float32)
    known, unknown = detector.score(data.known), detector.score(noise)
    assert np.mean(unknown[:, None] > known) > 0.9


def test_logits_are_scaled_without_a_head(trained, data):
    lts = detectors.get("lts", features="functional_convolution", num_classes=3)
    assert np.all(np.isfinite(lts.fit(trained[3]).score(data.known)))


def test_bad_arguments_fail_at_construction():
    for name, arguments, message in (
        ("gen", {"gamma": 1.5}, "gamma"),
        ("gen", {"gamma": "x"}, "gamma='x'"),
        ("gen", {"num_top": 0}, "num_top"),
        ("energy", {"temperature": None}, "temperature=None"),
        ("msp", {"temperature": "2"}, "temperature='2'"),
        ("mahalanobis", {"perturbation": None}, "perturbation=None"),
        ("odin", {"epsilon": "0.1"}, "epsilon='0.1'"),
        ("odin", {"epsilon": float("inf")}, "epsilon=inf"),
        ("openmax", {"shift": "1"}, "shift='1'"),
        ("ash", {"percentile": [0.5]}, "percentile="),
        ("knn", {"seed": "a"}, "seed='a'"),
        ("nnguide", {"seed": 2.7}, "seed=2.7"),
        ("one_class_svm", {"seed": -1}, "seed=-1"),
        ("one_class_svm", {"nu": 0.0}, "nu=0.0"),
        ("one_class_svm", {"gamma": 0.0}, "gamma=0.0"),
        ("one_class_svm", {"max_images": 0}, "max_images"),
        ("learned_confidence", {"seed": "a"}, "seed='a'"),
        ("learned_confidence", {"epochs": 0}, "epochs"),
        ("learned_confidence", {"learning_rate": 0.0}, "learning_rate"),
        ("knn", {"seed": -1}, "seed=-1"),
        ("mahalanobis", {"layers": "one_name"}, "layers"),
        ("mahalanobis", {"perturbation": -1.0}, "perturbation"),
        ("mahalanobis", {"shrinkage": 1.0}, "shrinkage"),
        ("mahalanobis", {"cutoff": 1.0}, "cutoff"),
        ("relative_mahalanobis", {"cutoff": -0.1}, "cutoff"),
        ("knn", {"k": 0}, "k="),
        ("vim", {"dimension": 2.5}, "dimension"),
        ("vim", {"origin": "zero"}, "origin"),
        ("vim", {"normalize": True}, "origin='mean' with normalize=True"),
        ("vim", {"projection": 4}, "give its `dimension`"),
        ("she", {"projection": 0}, "projection"),
        ("mahalanobis", {"projection": 2.5}, "projection"),
        ("gram", {"num_powers": 0}, "num_powers"),
        ("gram", {"quantile": 0.5}, "quantile"),
        ("openmax", {"tail_size": 0}, "tail_size"),
        ("openmax", {"shift": 0.0}, "shift"),
        ("odin", {"epsilon": -1.0}, "epsilon"),
        ("odin", {"temperature": 2.0, "detector": "energy"}, "temperature"),
        ("odin", {"detector": "odin"}, "perturbs"),
        ("react", {"quantile": 2.0}, "quantile"),
        ("react", {"detector": "knn"}, "wraps detectors"),
        ("ash", {"treatment": "other"}, "treatment"),
        ("nci", {"alpha": -1.0}, "alpha"),
        ("core", {"orthogonal_to": "none"}, "'predicted' or 'all'"),
        ("lts", {"percentile": 1.0}, "percentile"),
        ("lts", {"detector": "knn"}, "wraps detectors"),
        ("vra", {"low": 0.9, "high": 0.8}, "above `low`"),
        ("vra", {"amplification": -0.1}, "amplification"),
        ("weiper", {"num_bins": 1}, "num_bins"),
        ("weiper", {"distance": 0.0}, "distance"),
        ("weiper", {"seed": -1}, "seed=-1"),
        ("combood", {"regularization": 0.0}, "regularization"),
        ("ensemble", {"detectors": []}, "at least one"),
        ("ensemble", {"detectors": [detectors.get("msp", num_classes=3)]}, "members"),
    ):
        with pytest.raises(ValueError, match=message):
            detectors.get(name, **arguments)
    with pytest.raises(TypeError, match="name"):
        detectors.get("odin", detector=3)


@pytest.mark.parametrize("batch_size", [None, 0, 2.5])
def test_a_batch_holds_at_least_one_image(trained, data, batch_size):
    detector = detectors.get("msp", num_classes=3).fit(trained[3])
    with pytest.raises(ValueError, match="`batch_size` must be an integer >= 1"):
        detector.score(data.known, batch_size=batch_size)


def test_data_that_can_be_walked_only_once_is_refused(trained, data):
    with pytest.raises(ValueError, match="only once"):
        detectors.get("knn").fit(trained[3], iter([data.train]))


def test_a_wrapper_takes_the_arguments_of_what_it_wraps(trained, data):
    inner = detectors.get("energy", num_classes=4, temperature=2.0)
    wrapper = detectors.get("react", detector=inner)
    assert wrapper.num_classes == 4
    assert wrapper.fit(trained[4], data.train).num_classes == 4
    # The detector that was given is only described, not fitted.
    with pytest.raises(RuntimeError, match="call fit"):
        inner.score(data.known)
