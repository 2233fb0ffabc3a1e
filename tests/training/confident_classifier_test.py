"""The joint training of Lee et al.: formulas, who learns from what, resume, saving."""

import itertools
import json

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from ood_keras import losses, models, training
from ood_keras.training import checkpoints, confident_classifier

NUM_CLASSES = 3
SEED = 5


class KnownData:
    """Batches of known images that are a pure function of (epoch, step)."""

    steps_per_epoch = 4

    def __init__(self):
        generator = np.random.default_rng(0)
        self.labels = generator.integers(0, NUM_CLASSES, 60).astype(np.int32)
        bright = self.labels[:, None, None, None] / NUM_CLASSES
        self.images = (0.3 * generator.random((60, 6, 6, 1)) + bright).astype("float32")

    def epoch(self, index, start_step=0):
        order = np.random.default_rng((SEED, index)).permutation(60)[16 * start_step :]
        arrays = (self.images[order], self.labels[order])
        return tf.data.Dataset.from_tensor_slices(arrays).batch(16)


def build_model(**arguments):
    training.set_seed(SEED)
    classifier = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(momentum=0.8),
            keras.layers.ReLU(),
            keras.layers.Dropout(0.3),
            keras.layers.Flatten(),
            keras.layers.Dense(NUM_CLASSES, name="logits"),
        ]
    )
    model = training.ConfidentClassifier(classifier, latent_size=5, **arguments)
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 20)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9),
        loss=losses.EntropicOpenSet(NUM_CLASSES),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def fit(run_dir, model, data=None):
    data = data or KnownData()
    validation = (data.images, data.labels), 1 - data.images
    return training.fit(
        model,
        data,
        epochs=2,
        run_dir=run_dir,
        validation=validation,
        num_classes=NUM_CLASSES,
        seed=SEED,
        score="msp",
        checkpoint_every=0.0,
        progress=False,
    )


def values(variables):
    return [variable.numpy() for variable in variables]


def are_equal(left, right):
    pairs = zip(values(left), right, strict=True)
    return all(array.tobytes() == expected.tobytes() for array, expected in pairs)


@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0])
def test_losses_equal_the_reference(scale):
    rng = np.random.default_rng(1)
    logits = scale * rng.normal(size=(7, NUM_CLASSES))
    known, generated = scale * rng.normal(size=(2, 7, 1))
    p = scipy.special.softmax(logits, axis=1)
    uniform = np.full(NUM_CLASSES, 1 / NUM_CLASSES)
    divergence = np.array([scipy.stats.entropy(uniform, row) for row in p])
    result = confident_classifier.divergence_from_uniform(logits.astype("float32"))
    np.testing.assert_allclose(result, divergence, rtol=1e-5, atol=1e-6)

    def minus_log(x):
        return -np.log(scipy.special.expit(x))

    expected = minus_log(known).mean() + minus_log(-generated).mean()
    result = confident_classifier.discriminator_loss(
        *(x.astype("float32") for x in (known, generated))
    )
    assert float(result) == pytest.approx(expected, rel=1e-5)
    expected = minus_log(generated).mean() + 0.7 * divergence.mean()
    result = confident_classifier.generator_loss(
        generated.astype("float32"), logits.astype("float32"), 0.7
    )
    assert float(result) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("part", ["discriminator", "generator", "classifier"])
def test_each_step_trains_its_network_only(part):
    model = build_model()
    model.optimizer.build(model.trainable_variables)
    data = KnownData()
    parts = ("discriminator", "generator", "classifier")
    before = {p: values(getattr(model, p).trainable_variables) for p in parts}
    averages = values(model.classifier.non_trainable_variables)
    images, labels = data.images[:16], tf.constant(data.labels[:16])
    if part == "discriminator":
        model._train_discriminator(images)
    elif part == "generator":
        model._train_generator(16)
    else:
        model._train_classifier(images, labels, None)
    for p in parts:
        unchanged = are_equal(getattr(model, p).trainable_variables, before[p])
        assert unchanged == (p != part), p
    if part != "classifier":
        assert are_equal(model.classifier.non_trainable_variables, averages)


def test_the_step_is_the_written_one():
    """One SGD step on (cross-entropy + weight KL) of one batch of both kinds."""
    model = build_model(confidence_weight=0.5)
    model.classifier.layers[3].rate = 0.0
    model.compile(keras.optimizers.SGD(0.1), losses.EntropicOpenSet(NUM_CLASSES))
    data = KnownData()
    images, labels = data.images[:16], data.labels[:16]
    state = model.noise_seed.state.numpy()
    generated = model._generate(16)
    model.noise_seed.state.assign(state)
    variables = model.classifier.trainable_variables
    before = values(variables)
    with tf.GradientTape() as tape:
        logits = model.classifier(tf.concat([images, generated], 0), training=True)
        log_p = tf.nn.log_softmax(logits)
        cross_entropy = -tf.reduce_mean(tf.gather(log_p[:16], labels, batch_dims=1))
        divergence = tf.reduce_mean(-log_p[16:]) - np.log(NUM_CLASSES)
        loss = cross_entropy + 0.5 * divergence
    gradients = tape.gradient(loss, variables)
    _, result, confidence = model._train_classifier(images, tf.constant(labels), None)
    assert float(result) == pytest.approx(float(loss), rel=1e-4)
    assert float(confidence) == pytest.approx(float(divergence), rel=1e-4, abs=1e-6)
    for variable, start, gradient in zip(variables, before, gradients, strict=True):
        expected = start - 0.1 * gradient.numpy()
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-3, atol=1e-6)


def test_generator_moves_where_the_classifier_is_unsure():
    """Of two brightnesses that look equally known, the unsure one is generated."""
    training.set_seed(0)
    classifier = keras.Sequential(
        [
            keras.Input((1, 1, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, name="logits"),
        ]
    )
    # Sure of bright images, unsure of dark ones.
    classifier.layers[-1].set_weights([np.array([[6.0, -6.0]]), np.zeros(2)])
    generator = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(1, "sigmoid"),
            keras.layers.Reshape((1, 1, 1)),
        ]
    )
    undecided = keras.Sequential(
        [
            keras.Input((1, 1, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(1, kernel_initializer="zeros"),
        ]
    )
    brightness = {}
    for weight in (0.0, 5.0):
        model = training.ConfidentClassifier(
            classifier,
            keras.models.clone_model(generator),
            undecided,
            latent_size=2,
            confidence_weight=weight,
            gan_learning_rate=0.05,
        )
        step = tf.function(lambda m=model: m._train_generator(32))
        for _ in range(60):
            step()
        brightness[weight] = float(np.mean(model._generate(256)))
    assert brightness[5.0] < 0.2 < 0.4 < brightness[0.0]


def test_learns_and_becomes_unsure_of_generated_images():
    model = build_model(confidence_weight=2.0)
    loss = losses.EntropicOpenSet(NUM_CLASSES)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    data = KnownData()
    history = model.fit(data.epoch(0).repeat(50), verbose=0, shuffle=False).history
    names = ("loss", "confidence_loss", "generator_loss", "discriminator_loss")
    assert all(np.isfinite(history[name]).all() for name in names)
    probabilities = tf.nn.softmax(model.predict(data.images, verbose=0)).numpy()
    assert np.mean(probabilities.argmax(axis=1) == data.labels) > 0.9
    generated = model.predict(model._generate(64), verbose=0)
    largest = tf.nn.softmax(generated).numpy().max(axis=1)
    assert largest.mean() < probabilities.max(axis=1).mean() - 0.2


def test_resumes_exactly_and_saves_the_plain_classifier(tmp_path, monkeypatch):
    expected = build_model()
    expected_history = fit(tmp_path / "whole", expected)
    write, count = checkpoints.write, itertools.count(1)

    def interrupted(folder, checkpoint):
        write(folder, checkpoint)
        if next(count) == 7:  # Inside the second epoch.
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write", interrupted)
        fit(tmp_path / "resumed", build_model())
    model = build_model()
    history = fit(tmp_path / "resumed", model)
    assert {"loss", "accuracy", "confidence_loss"} <= history[0].keys()
    for row, expected_row in zip(history, expected_history, strict=True):
        assert {**row, "seconds": 0} == {**expected_row, "seconds": 0}
    assert are_equal(model.variables, values(expected.variables))
    assert are_equal(model.optimizer.variables, values(expected.optimizer.variables))
    saved = keras.models.load_model(tmp_path / "resumed" / "model.keras")
    assert type(saved) is keras.Sequential
    assert are_equal(saved.weights, values(expected.classifier.weights))
    run = json.loads((tmp_path / "resumed" / "run.json").read_text())
    assert run["model"]["parameters"] == saved.count_params()


def test_state_of_all_optimizers_is_among_the_variables():
    model = build_model()
    ids = {id(variable) for variable in model.variables}
    for optimizer in (model.generator_optimizer, model.discriminator_optimizer):
        assert len(optimizer.variables) > 2
        assert {id(variable) for variable in optimizer.variables} <= ids
    assert id(model.noise_seed.state) in ids


def test_saves_and_loads_whole(tmp_path):
    model = build_model(confidence_weight=0.3)
    model.fit(KnownData().epoch(0), verbose=0, shuffle=False)
    model.save(tmp_path / "whole.keras")
    loaded = keras.models.load_model(tmp_path / "whole.keras")
    assert type(loaded) is training.ConfidentClassifier
    assert loaded.latent_size == 5
    assert loaded.confidence_weight == 0.3
    assert are_equal(loaded.weights, values(model.weights))
    for part in ("optimizer", "generator_optimizer", "discriminator_optimizer"):
        original = values(getattr(model, part).variables)
        assert are_equal(getattr(loaded, part).variables, original), part


def test_unknown_images_are_an_error():
    data = KnownData()
    with pytest.raises(tf.errors.InvalidArgumentError, match="known images only"):
        build_model().fit(data.images, data.labels - 1, verbose=0)


@pytest.mark.parametrize("shape", [(28, 28, 1), (30, 33, 3)])
def test_own_networks_fit_the_images(shape):
    classifier = models.alexnet(shape, 4, unknown_class=False)
    model = training.ConfidentClassifier(classifier)
    images = model._generate(2)
    assert tuple(images.shape) == (2, *shape)
    assert np.all((images >= 0) & (images <= 1))
    assert tuple(model.discriminator(images).shape) == (2, 1)
    assert tuple(model(images).shape) == (2, 4)
    gan = model.generator.count_params() + model.discriminator.count_params()
    assert gan < 600_000


def test_errors_say_what_was_expected():
    classifier = models.alexnet(num_classes=3, unknown_class=False)
    with pytest.raises(ValueError, match="`confidence_weight` must be at least 0"):
        training.ConfidentClassifier(classifier, confidence_weight=-1)
    with pytest.raises(ValueError, match="`latent_size` must be an integer >= 1"):
        training.ConfidentClassifier(classifier, latent_size=0)
    with pytest.raises(TypeError, match=r"built keras\.Model of images"):
        training.ConfidentClassifier(keras.Sequential([keras.layers.Dense(3)]))
