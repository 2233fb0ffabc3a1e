"""Trains a classifier together with a GAN that finds the border of the known images."""

import math
from typing import Any, Self

import keras
import tensorflow as tf
from keras import layers, ops

from ood_keras.conventions import UNKNOWN, check_count
from ood_keras.losses.entropic_open_set import entropic_open_set
from ood_keras.types import ImageShape, Json, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class ConfidentClassifier(keras.Model):
    """Trains a classifier to be unsure of images that a GAN makes meanwhile.

    Use it as the baseline that needs no unknown images: Lee, Lee, Lee and Shin,
    "Training Confidence-calibrated Classifiers for Detecting Out-of-Distribution
    Samples" (ICLR 2018), Eq. 4 and Algorithm 1. Score the trained classifier by its
    largest probability, the detector "msp". With U the uniform distribution over the N
    classes, D the discriminator's logit and softplus(x) = log(1 + exp(x)), each batch
    gives one step to each network in turn, with new noise z for each:

        discriminator:  softplus(-D(x)) + softplus(D(G(z)))
        generator:      softplus(-D(G(z))) + weight KL(U || p(y | G(z)))
        classifier:     loss(y, x) + weight KL(U || p(y | G(z)))

    So the generator is drawn to images that look known and that the classifier is
    unsure of, and the classifier learns to be unsure there. Two things are read freely.
    As in the authors' code, the generator maximises log D(G(z)) and does not minimise
    log(1 - D(G(z))). Known and generated images pass the classifier as one batch:
    theirs has no batch normalisation; one that normalised the two apart could tell them
    by their batch's statistics, and would know neither at test time.

    Calling the model calls the classifier. Only the classifier belongs to the compiled
    optimizer; the GAN has its own, Adam with the authors' beta_1 = 0.5. All their state
    is among `variables`, so that `training.fit` resumes exactly; its `model.keras` is
    the plain classifier. One that is saved whole can be loaded once
    `ood_keras.training` is imported.

    Args:
        classifier: A built `keras.Model` from images `(batch, height, width, channels)`
            to the N logits of the known classes, without an unknown class.
        generator: A built model from noise `(batch, latent_size)` to images in [0, 1].
            `None` makes a small one like DCGAN's.
        discriminator: A built model from images to one logit, high for known images.
            `None` makes a small one like DCGAN's.
        latent_size: Integer >= 1, the size of the noise. Defaults to `100`.
        confidence_weight: Float >= 0, the paper's beta; the authors take 1 for SVHN and
            0.1 for CIFAR-10. Defaults to `1.0`.
        gan_learning_rate: Float > 0, of both of the GAN's optimizers. Defaults to
            `2e-4`, the authors'.
        name: Name of the model.

    Call arguments:
        images: Float images in [0, 1]. For training, labels are integers `0..N-1`;
            -1 is an error, since this method sees no unknown images.

    Returns:
        The classifier's logits `(batch, N)`.

    Raises:
        TypeError: `classifier` is no built model that knows its input shape.
        ValueError: an argument is out of its range, or Keras does not run on
            TensorFlow.
        tf.errors.InvalidArgumentError: a batch for training has a label below 0.

    Example:

    >>> import ood_keras
    >>> classifier = ood_keras.models.se_alexnet(num_classes=10, unknown_class=False)
    >>> model = ood_keras.training.ConfidentClassifier(classifier)
    >>> model.compile(
    ...     keras.optimizers.SGD(0.05, momentum=0.9),
    ...     loss=ood_keras.losses.EntropicOpenSet(num_classes=10),
    ...     jit_compile=False,
    ... )

    On known images that loss is the cross-entropy. The history has `loss`, the
    classifier's, and `confidence_loss`, `generator_loss` and `discriminator_loss`.
    """

    def __init__(
        self,
        classifier: keras.Model,
        generator: keras.Model | None = None,
        discriminator: keras.Model | None = None,
        latent_size: int = 100,
        confidence_weight: float = 1.0,
        gan_learning_rate: float = 2e-4,
        name: str = "confident_classifier",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "ConfidentClassifier trains on TensorFlow only: set "
                f"KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()!r}"
            )
        image_shape = _image_shape(classifier)
        self.latent_size = check_count("latent_size", latent_size)
        self.confidence_weight = _check_at_least_0(
            "confidence_weight", confidence_weight
        )
        self.gan_learning_rate = _check_at_least_0(
            "gan_learning_rate", gan_learning_rate
        )
        self.classifier = classifier
        self.generator = generator or _build_generator(image_shape, self.latent_size)
        self.discriminator = discriminator or _build_discriminator(image_shape)
        self.generator_optimizer = self._adam(self.generator)
        self.discriminator_optimizer = self._adam(self.discriminator)
        self.noise_seed = keras.random.SeedGenerator()
        self.trackers = [
            keras.metrics.Mean(name=f"{part}_loss")
            for part in ("confidence", "generator", "discriminator")
        ]
        self.built = True

    @property
    def inference_model(self) -> keras.Model:
        """What training is for: the model that `training.fit` saves."""
        return self.classifier

    @property
    def variables(self) -> list[keras.Variable]:
        """All that a training step changes, the GAN's optimizers included."""
        return [
            *super().variables,
            *self.generator_optimizer.variables,
            *self.discriminator_optimizer.variables,
        ]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """What the compiled optimizer trains: the classifier's alone."""
        return self.classifier.trainable_variables

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        return self.classifier.trainable_weights

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        return self.classifier(images, training=training)

    def train_step(self, data: tuple[Tensor, ...]) -> dict[str, Tensor]:
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        tf.debugging.assert_non_negative(
            labels,
            message="ConfidentClassifier learns from known images only, with labels "
            "from 0 up, and makes its own unknown ones. Leave out the unknown images "
            "(label -1), or train with another loss",
        )
        batch_size = ops.shape(images)[0]
        discriminator_loss = self._train_discriminator(images)
        generator_loss = self._train_generator(batch_size)
        logits, loss, confidence = self._train_classifier(images, labels, weights)
        values = (confidence, generator_loss, discriminator_loss)
        for tracker, value in zip(self.trackers, values, strict=True):
            tracker.update_state(value, sample_weight=batch_size)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=batch_size)
        return self.compute_metrics(images, labels, logits, weights)

    def _train_discriminator(self, images):
        generated = self._generate(ops.shape(images)[0])
        with tf.GradientTape() as tape:
            # One batch each, as in DCGAN and in the authors' code.
            loss = discriminator_loss(
                self.discriminator(images, training=True),
                self.discriminator(generated, training=True),
            )
        _step(self.discriminator_optimizer, tape, loss, self.discriminator)
        return loss

    def _train_generator(self, batch_size):
        with tf.GradientTape() as tape:
            generated = self._generate(batch_size)
            # A batch without known images must leave no trace in the classifier's
            # moving averages: hence the inference mode.
            loss = generator_loss(
                self.discriminator(generated, training=True),
                self.classifier(generated, training=False),
                self.confidence_weight,
            )
        _step(self.generator_optimizer, tape, loss, self.generator)
        return loss

    def _train_classifier(self, images, labels, weights):
        batch_size = ops.shape(images)[0]
        generated = ops.cast(self._generate(batch_size), images.dtype)
        with tf.GradientTape() as tape:
            both = self(ops.concatenate([images, generated]), training=True)
            logits = both[:batch_size]
            confidence = ops.mean(divergence_from_uniform(both[batch_size:]))
            loss = self.compute_loss(images, labels, logits, weights, training=True)
            loss = loss + self.confidence_weight * confidence
            scaled = self.optimizer.scale_loss(loss)
        _step(self.optimizer, tape, scaled, self.classifier)
        return logits, loss, confidence

    def _generate(self, count):
        noise = keras.random.normal((count, self.latent_size), seed=self.noise_seed)
        return self.generator(noise, training=True)

    def _adam(self, model):
        optimizer = keras.optimizers.Adam(self.gan_learning_rate, beta_1=0.5)
        optimizer.build(model.trainable_variables)
        return optimizer

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            **{
                part: keras.saving.serialize_keras_object(getattr(self, part))
                for part in ("classifier", "generator", "discriminator")
            },
            "latent_size": self.latent_size,
            "confidence_weight": self.confidence_weight,
            "gan_learning_rate": self.gan_learning_rate,
        }

    @classmethod
    def from_config(cls, config: Json) -> Self:
        parts = ("classifier", "generator", "discriminator")
        models = {
            part: keras.saving.deserialize_keras_object(config[part]) for part in parts
        }
        return cls(**{**config, **models})


def divergence_from_uniform(logits: Tensor) -> Tensor:
    """KL(U || p) of each image, `(batch,)`; p is the softmax of `(batch, N)` logits."""
    num_classes = logits.shape[-1]
    unknown = ops.full((ops.shape(logits)[0],), UNKNOWN, "int32")
    return entropic_open_set(unknown, logits, num_classes) - math.log(num_classes)


def discriminator_loss(known: Tensor, generated: Tensor) -> Tensor:
    """What the discriminator minimises, a scalar, of its two logits `(batch, 1)`."""
    return ops.mean(ops.softplus(-known)) + ops.mean(ops.softplus(generated))


def generator_loss(judged: Tensor, logits: Tensor, confidence_weight: float) -> Tensor:
    """What the generator minimises, a scalar.

    Args:
        judged: The discriminator's logits `(batch, 1)` of generated images.
        logits: The classifier's logits `(batch, N)` of them.
        confidence_weight: Weight of the second against the first.
    """
    confidence = ops.mean(divergence_from_uniform(logits))
    return ops.mean(ops.softplus(-judged)) + confidence_weight * confidence


def _step(optimizer, tape, loss, model):
    variables = model.trainable_variables
    optimizer.apply(tape.gradient(loss, variables), variables)


def _build_generator(
    image_shape: ImageShape, latent_size: int, filters: int = 64
) -> keras.Model:
    """Noise to images: two doublings in size, then cut to the shape."""
    height, width, channels = image_shape
    rows, columns = math.ceil(height / 4), math.ceil(width / 4)
    noise = keras.Input((latent_size,), name="noise")
    x = layers.Dense(rows * columns * filters, **_conv(), name="generator_dense")(noise)
    x = layers.Reshape((rows, columns, filters), name="generator_reshape")(x)
    x = layers.BatchNormalization(name="generator_norm_1")(x)
    x = layers.ReLU(name="generator_relu_1")(x)
    x = layers.Conv2DTranspose(
        filters // 2, 4, 2, padding="same", **_conv(), name="generator_conv_1"
    )(x)
    x = layers.BatchNormalization(name="generator_norm_2")(x)
    x = layers.ReLU(name="generator_relu_2")(x)
    x = layers.Conv2DTranspose(
        channels,
        4,
        2,
        padding="same",
        activation="sigmoid",
        **_conv(),
        name="generator_conv_2",
    )(x)
    cut = ((0, 4 * rows - height), (0, 4 * columns - width))
    return keras.Model(noise, layers.Cropping2D(cut)(x), name="generator")


def _build_discriminator(image_shape: ImageShape, filters: int = 32) -> keras.Model:
    images = keras.Input(image_shape, name="discriminator_image")
    x = layers.Conv2D(
        filters, 4, 2, padding="same", **_conv(), name="discriminator_conv_1"
    )(images)
    x = layers.LeakyReLU(0.2, name="discriminator_relu_1")(x)
    x = layers.Conv2D(
        2 * filters, 4, 2, padding="same", **_conv(), name="discriminator_conv_2"
    )(x)
    x = layers.BatchNormalization(name="discriminator_norm_2")(x)
    x = layers.LeakyReLU(0.2, name="discriminator_relu_2")(x)
    x = layers.Flatten(name="discriminator_flatten")(x)
    logit = layers.Dense(1, **_conv(), name="discriminator_logit")(x)
    return keras.Model(images, logit, name="discriminator")


def _conv() -> Json:
    """No bias and a normal start, as in DCGAN; a new initializer for each layer."""
    return {
        "use_bias": False,
        "kernel_initializer": keras.initializers.RandomNormal(stddev=0.02),
    }


def _image_shape(classifier: keras.Model) -> ImageShape:
    """`(height, width, channels)` of the images that `classifier` takes."""
    shape = getattr(classifier, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:]:
        raise TypeError(
            "`classifier` must be a built keras.Model of images with a known height, "
            "width and number of channels, such as models.se_alexnet(...). Received: "
            f"{type(classifier).__name__} with input_shape={shape}"
        )
    return shape[1:]


def _check_at_least_0(name: str, value: float) -> float:
    if not value >= 0:
        raise ValueError(f"`{name}` must be at least 0. Received: {name}={value!r}")
    return float(value)
