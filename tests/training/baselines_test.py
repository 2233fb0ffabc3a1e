"""The baselines on tiny images, each formula against an independent reference."""

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import sklearn.metrics
import tensorflow as tf

from ood_keras import training
from ood_keras.training import baselines
from ood_keras.training.baselines import (
    learned_confidence,
    likelihood_ratio,
    prior_network,
    temperature_scaling,
)

NUM_CLASSES = 3


def known_images(count, seed):
    """Bright bars at one of three heights."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, NUM_CLASSES, count)
    images = 0.2 * random.random((count, 6, 6, 1))
    images[np.arange(count), 2 * labels] += 0.7
    return images.astype("float32"), labels


def unknown_images(count, seed):
    """Bright bars in the other direction."""
    return known_images(count, seed)[0].transpose(0, 2, 1, 3).copy()


def network():
    training.set_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dense(NUM_CLASSES, name="logits"),
        ]
    )


@pytest.fixture(scope="module")
def classifier():
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    model.fit(*known_images(200, seed=1), epochs=5, verbose=0)
    return model


def auroc(baseline):
    known = baseline.score(known_images(100, seed=2)[0])
    unknown = baseline.score(unknown_images(100, seed=3))
    assert known.dtype == unknown.dtype == np.float32
    assert known.shape == (100,)
    labels = np.repeat([0, 1], 100)
    return sklearn.metrics.roc_auc_score(labels, np.concatenate([known, unknown]))


def fit(name, classifier):
    """The baseline, fitted with few epochs; same call, same bits."""
    data = known_images(200, seed=1)
    if name == "temperature_scaling":
        return baselines.TemperatureScaling().fit(classifier, known_images(90, seed=4))
    if name == "learned_confidence":
        options = {"hidden_size": 16, "epochs": 3, "learning_rate": 0.003}
        return baselines.LearnedConfidence(**options).fit(classifier, data)
    if name == "one_class_svm":
        validation = known_images(60, seed=4)[0], unknown_images(60, seed=5)
        return baselines.OneClassSVM().fit(classifier, data, validation)
    if name == "likelihood_ratio":
        options = {"latent_size": 2, "hidden_size": 24, "epochs": 25}
        options["batch_size"] = 20
        return baselines.LikelihoodRatio(learning_rate=0.01, **options).fit(data)
    images = np.concatenate([data[0], unknown_images(60, seed=5)])
    labels = np.concatenate([data[1], np.full(60, -1)])
    mixed = tf.data.Dataset.from_tensor_slices((images, labels))
    mixed = mixed.shuffle(260, seed=0, reshuffle_each_iteration=False).batch(20)
    options = {"concentration": 10.0, "epochs": 10, "learning_rate": 0.02}
    return baselines.PriorNetwork(NUM_CLASSES, **options).fit(network(), mixed)


# A classifier that saw no unknown image may be sure of one: those three need not be
# good here, but their scores must follow from what they learnt.
@pytest.mark.parametrize(
    ("name", "lowest"),
    [
        ("temperature_scaling", None),
        ("learned_confidence", None),
        ("one_class_svm", 0.8),
        ("likelihood_ratio", 0.9),
        ("prior_network", 0.95),
    ],
)
def test_scores_unknown_higher_and_repeats_exactly(name, lowest, classifier):
    before = classifier.get_weights()
    first = fit(name, classifier)
    result = auroc(first)
    assert lowest is None or result > lowest, result
    images = known_images(300, seed=6)[0]
    scores = first.score(images)
    np.testing.assert_array_equal(fit(name, classifier).score(images), scores)
    np.testing.assert_allclose(
        first.score(images[7:9]), scores[7:9], rtol=1e-4, atol=1e-5
    )
    for array, expected in zip(classifier.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_is_that_of_the_most_likely_probabilities(temperature):
    random = np.random.default_rng(0)
    logits = 3 * random.normal(size=(4000, 5))
    p = scipy.special.softmax(logits, axis=1)
    labels = np.array([random.choice(5, p=row) for row in p])
    scaled = logits * temperature

    def likelihood(inverse):
        p = scipy.special.softmax(scaled * inverse, axis=1)
        return -np.mean(np.log(p[np.arange(4000), labels]))

    result = temperature_scaling.fit_temperature(scaled, labels)
    best = scipy.optimize.minimize(likelihood, 1.0, tol=1e-10).x[0]
    assert result == pytest.approx(1 / best, rel=1e-3)
    assert result == pytest.approx(temperature, rel=0.1)
    value = temperature_scaling.negative_log_likelihood(scaled, labels, 2.0)
    assert value == pytest.approx(likelihood(0.5), rel=1e-9)


def test_temperature_scaling_scores_by_the_largest_scaled_probability(classifier):
    baseline = fit("temperature_scaling", classifier)
    images = unknown_images(40, seed=7)
    logits = classifier.predict(images, verbose=0).astype("float64")
    p = scipy.special.softmax(logits / baseline.temperature, axis=1).max(axis=1)
    expected = np.log((1 - p) / (p * (NUM_CLASSES - 1)))
    np.testing.assert_allclose(baseline.score(images), expected, rtol=1e-3, atol=1e-3)


def test_true_class_probability_and_its_loss():
    logits = np.array([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    e = np.exp(logits[0])
    expected = [[e[2] / e.sum()], [1 / 3]]
    result = learned_confidence.true_class_probability(logits, np.array([2, 1]))
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    log_odds = np.array([[0.3], [-2.0]])
    squared = (1 / (1 + np.exp(-log_odds)) - expected) ** 2
    result = learned_confidence.confidence_loss(np.array(expected), log_odds)
    np.testing.assert_allclose(result, squared, rtol=1e-6)


def test_learned_confidence_regresses_the_true_class_probability():
    """Of classes that look alike, half the labels are wrong: confidence near 1/2."""
    images, labels = known_images(400, seed=8)
    wrong = np.arange(400) % 2 == 0
    labels = np.where((labels == 1) & wrong, 0, labels)
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    model.fit(images, labels, epochs=15, verbose=0)
    options = {"hidden_size": 16, "epochs": 15, "learning_rate": 0.003}
    baseline = baselines.LearnedConfidence(**options).fit(model, (images, labels))
    test_images, test_labels = known_images(200, seed=9)
    confidence = scipy.special.expit(-baseline.score(test_images))
    assert confidence[test_labels == 1].mean() == pytest.approx(0.5, abs=0.1)
    assert confidence[test_labels == 2].mean() > 0.9


def test_one_class_svm_rejects_the_share_nu_of_its_training_images(classifier):
    images, labels = known_images(400, seed=1)
    for nu in (0.05, 0.3):
        baseline = baselines.OneClassSVM(nu=nu, gamma=0.02, max_images=400)
        baseline.fit(classifier, (images, labels))
        outside = np.mean(baseline.score(images) > 0)
        assert outside == pytest.approx(nu, abs=0.04)


def test_one_class_svm_takes_the_gamma_that_is_best_on_validation(classifier):
    data = known_images(200, seed=1)
    known, unknown = known_images(60, seed=4)[0], unknown_images(60, seed=5)
    chosen = baselines.OneClassSVM().fit(classifier, data, (known, unknown))
    values = {}
    for gamma in (2.0**-9, 2.0**-7, 2.0**-5, 2.0**-3, 2.0**-1):
        machine = baselines.OneClassSVM(gamma=gamma).fit(classifier, data)
        scores = [machine.score(images) for images in (known, unknown)]
        labels = np.repeat([0, 1], 60)
        values[gamma] = sklearn.metrics.roc_auc_score(labels, np.concatenate(scores))
    assert values[chosen.gamma] == max(values.values()) > min(values.values())
    with pytest.raises(ValueError, match="expected `validation`"):
        baselines.OneClassSVM().fit(classifier, data)


def test_elbo_equals_the_reference():
    random = np.random.default_rng(0)
    x = random.random((3, 4, 5, 2))
    logits = 3 * random.normal(size=x.shape)
    mean, log_variance = random.normal(size=(2, 3, 6))
    expected = []
    for i in range(3):
        s = scipy.special.expit(logits[i])
        likelihood = np.sum(x[i] * np.log(s) + (1 - x[i]) * np.log(1 - s))
        variance = np.exp(log_variance[i])
        # KL of a Gaussian to the standard one, as cross-entropy minus entropy.
        cross = 0.5 * np.sum(np.log(2 * np.pi) + variance + mean[i] ** 2)
        entropy = scipy.stats.norm(scale=np.sqrt(variance)).entropy().sum()
        expected.append(likelihood - (cross - entropy))
    result = likelihood_ratio.elbo(x, logits, mean, log_variance)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_mutation_replaces_its_share_of_pixels_by_any_value():
    images = np.full((50, 20, 20, 1), 0.5, np.float32)
    seed = keras.random.SeedGenerator(0)
    mutated = np.asarray(likelihood_ratio.mutate(images, 0.3, seed))
    changed = mutated[mutated != 0.5]
    assert mutated.dtype == np.float32
    assert len(changed) / images.size == pytest.approx(0.3, abs=0.02)
    assert changed.min() == 0 and changed.max() == 1
    assert changed.mean() == pytest.approx(0.5, abs=0.02)
    again = np.asarray(likelihood_ratio.mutate(images, 0.3, seed))
    assert np.mean((again != 0.5) & (mutated != 0.5)) == pytest.approx(0.09, abs=0.02)
    same = likelihood_ratio.mutate(images, 0.0, seed)
    np.testing.assert_array_equal(same, images)


def test_likelihood_ratio_is_the_difference_of_the_two_bounds():
    baseline = fit("likelihood_ratio", None)
    images = known_images(5, seed=2)[0]
    bounds = {}
    for name in ("full", "background"):
        logits, mean, log_variance = getattr(baseline.pair, name)(images)
        bounds[name] = likelihood_ratio.elbo(images, logits, mean, log_variance)
    np.testing.assert_allclose(
        baseline.score(images), bounds["background"] - bounds["full"], rtol=1e-4
    )
    assert np.mean(bounds["full"]) > np.mean(bounds["background"])


class BarData:
    """Batches of known images, a pure function of (epoch, step)."""

    steps_per_epoch = 5

    def epoch(self, index, start_step=0):
        arrays = known_images(100, seed=index)
        return tf.data.Dataset.from_tensor_slices(arrays).batch(20).skip(start_step)


class Interrupted(likelihood_ratio.KnownBound):
    """Ends the second epoch as Ctrl+C would."""

    calls = 0

    def measure(self):
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt
        return super().measure()


def train_pair(run_dir, validation=likelihood_ratio.KnownBound):
    training.set_seed(0)
    options = {"latent_size": 2, "hidden_size": 8}
    pair = baselines.LikelihoodRatio(**options).build((6, 6, 1))
    pair.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    history = training.fit(
        pair,
        BarData(),
        epochs=3,
        run_dir=run_dir,
        validation=validation(pair, known_images(50, seed=9)),
        num_classes=NUM_CLASSES,
        score=None,
        checkpoint_every=0.0,
    )
    return pair, history


def test_a_stopped_likelihood_ratio_ends_as_if_it_had_not_been(tmp_path, capsys):
    pair, history = train_pair(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_pair(tmp_path / "stopped", Interrupted)
    capsys.readouterr()
    again, rows = train_pair(tmp_path / "stopped")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("from epoch 2/3, step 4/5.")
    assert "val_known_loss" in lines[1] and "Best epoch" in lines[-1]
    for row, expected in zip(rows, history, strict=True):
        assert {**row, "seconds": 0} == {**expected, "seconds": 0}
    for array, expected in zip(again.get_weights(), pair.get_weights(), strict=True):
        assert array.tobytes() == expected.tobytes()

    losses = [row["val_known_loss"] for row in rows]
    images, _ = known_images(50, seed=9)
    assert min(losses) == pytest.approx(-np.mean(pair(images)["full"]), rel=1e-5)
    assert losses[0] != min(losses)
    loaded = keras.models.load_model(tmp_path / "stopped" / "model.keras")
    assert loaded.get_config() == again.get_config()
    expected = baselines.LikelihoodRatio().use_trained(pair).score(images)
    result = baselines.LikelihoodRatio().use_trained(loaded).score(images)
    np.testing.assert_array_equal(result, expected)


def test_differential_entropy_equals_scipy():
    logits = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    alphas = np.exp(logits.astype("float64"))
    expected = [scipy.stats.dirichlet(row).entropy() for row in alphas]
    result = prior_network.differential_entropy(logits)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_a_prior_network_trained_elsewhere_is_scored_alike():
    trained = network()
    baseline = baselines.PriorNetwork(NUM_CLASSES).use_trained(trained)
    images = unknown_images(9, seed=0)
    expected = prior_network.differential_entropy(trained(images))
    np.testing.assert_allclose(baseline.score(images), expected, rtol=1e-4, atol=1e-5)


def test_errors_say_what_was_expected(classifier):
    images, labels = known_images(10, seed=0)
    for baseline in (baselines.LearnedConfidence(), baselines.OneClassSVM(gamma=0.1)):
        with pytest.raises(RuntimeError, match="call `fit` before"):
            baseline.score(images)
        with pytest.raises(ValueError, match="known images with labels"):
            baseline.fit(classifier, images)
        with pytest.raises(ValueError, match="there is no known image"):
            baseline.fit(classifier, (images, np.full(10, -1)))
        with pytest.raises(ValueError, match="labels must be from 0 to 2"):
            baseline.fit(classifier, (images, labels + 1))
    with pytest.raises(ValueError, match="there is no known image"):
        baselines.LikelihoodRatio().fit((images, np.full(10, -1)))
    with pytest.raises(ValueError, match="`mutation_rate` is a fraction"):
        baselines.LikelihoodRatio(mutation_rate=1.0)
    with pytest.raises(
        ValueError, match=r"`nu` must be a number in \(0, 1\], a fraction"
    ):
        baselines.OneClassSVM(nu=0)
