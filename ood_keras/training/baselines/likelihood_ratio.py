"""The likelihood ratio of two variational autoencoders."""

import keras
import numpy as np
from keras import layers, ops

from ood_keras import batches
from ood_keras.conventions import UNKNOWN, check_count
from ood_keras.detectors.compiled import compiled
from ood_keras.training.baselines.base import Baseline
from ood_keras.training.set_seed import set_seed


class LikelihoodRatio(Baseline):
    """How much likelier a model of known images finds an image than one of background.

    Ren et al., "Likelihood Ratios for Out-of-Distribution Detection" (NeurIPS 2019):
    the background model learns from images of which each pixel was replaced, with the
    probability `mutation_rate`, by a random grey value. What both models find likely is
    background, and cancels. Here both are small variational autoencoders, whose bound
    (ELBO) stands for the likelihood; the paper has PixelCNN++. Grey values enter as
    probabilities of Bernoulli pixels; what that lacks of a density of grey values is
    the same for both models, and cancels too. Scored by ELBO(background) - ELBO(full),
    each at the mean of the latent variable, so that scores are not random.

    Args:
        mutation_rate: Fraction in (0, 1). Defaults to `0.2`; the paper finds 0.1 to 0.2
            good in most of its experiments.
        latent_size: Size of the latent variable. Defaults to `20`.
        hidden_size: Units of the dense layer in the encoder and in the decoder.
            Defaults to `500`, that of Kingma and Welling (ICLR 2014) for MNIST.
        epochs: Defaults to `30`.
        learning_rate: Of Adam. Defaults to `1e-3`.
        batch_size: Defaults to `128`.
        seed: Decides everything random.

    Attributes:
        full, background: The two trained `VariationalAutoencoder`, known after `fit`.

    Example:

    >>> ood_score = LikelihoodRatio().fit(images).score(test_images)
    """

    full = background = None

    def __init__(
        self,
        mutation_rate=0.2,
        latent_size=20,
        hidden_size=500,
        epochs=30,
        learning_rate=1e-3,
        batch_size=128,
        seed=0,
    ):
        if not 0 < mutation_rate < 1:
            raise ValueError(
                "`mutation_rate` must be a fraction in (0, 1). "
                f"Received: mutation_rate={mutation_rate!r}"
            )
        self.mutation_rate = mutation_rate
        self.latent_size = check_count("latent_size", latent_size)
        self.hidden_size = check_count("hidden_size", hidden_size)
        self.epochs = check_count("epochs", epochs)
        self.learning_rate = learning_rate
        self.batch_size = check_count("batch_size", batch_size)
        self.seed = seed

    def fit(self, data):
        """Trains both models.

        Args:
            data: Known training images; those labelled -1 are left out.

        Returns:
            The object itself.

        Raises:
            ValueError: there are no known images.
        """
        images = _known_images(data)
        set_seed(self.seed)
        self.full = self._train(images, mutation_rate=0.0)
        self.background = self._train(images, self.mutation_rate)
        self._scorer = compiled(
            lambda images: (
                elbo(images, *self.background(images, training=False))
                - elbo(images, *self.full(images, training=False))
            )
        )
        return self

    def _train(self, images, mutation_rate):
        model = VariationalAutoencoder(
            images.shape[1:], self.latent_size, self.hidden_size
        )
        model.compile(keras.optimizers.Adam(self.learning_rate), jit_compile=False)
        random = np.random.default_rng(self.seed)
        for _ in range(self.epochs):
            order = random.permutation(len(images))
            for start in range(0, len(order), self.batch_size):
                batch = images[order[start : start + self.batch_size]]
                model.train_on_batch(mutate(batch, mutation_rate, random))
        return model


class VariationalAutoencoder(keras.Model):
    """A variational autoencoder of dense layers, trained on its ELBO.

    Args:
        image_shape: `(height, width, channels)`.
        latent_size: Size of the latent variable.
        hidden_size: Units of the dense layer on either side.

    Call arguments:
        images: `(batch, height, width, channels)` in [0, 1].
        training: Whether the latent variable is drawn, or its mean is taken.

    Returns:
        `(logits, mean, log_variance)`: of the pixels, in the shape of the images; and
        of the latent variable, each `(batch, latent_size)`.
    """

    def __init__(self, image_shape, latent_size, hidden_size):
        super().__init__()
        self.encoder = keras.Sequential(
            [
                keras.Input(image_shape),
                layers.Flatten(),
                layers.Dense(hidden_size, "relu"),
                layers.Dense(2 * latent_size),
            ]
        )
        self.decoder = keras.Sequential(
            [
                keras.Input((latent_size,)),
                layers.Dense(hidden_size, "relu"),
                layers.Dense(int(np.prod(image_shape))),
                layers.Reshape(image_shape),
            ]
        )
        self.noise_seed = keras.random.SeedGenerator()

    def call(self, images, training=False):
        mean, log_variance = ops.split(self.encoder(images), 2, axis=-1)
        latent = mean
        if training:
            noise = keras.random.normal(ops.shape(mean), seed=self.noise_seed)
            latent = mean + ops.exp(0.5 * log_variance) * noise
        return self.decoder(latent), mean, log_variance

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return -ops.mean(elbo(x, *y_pred))


def elbo(images, logits, mean, log_variance):
    """The bound on the log-likelihood of each image, `(batch,)`.

    With s = sigmoid(logits), summed over pixels and latent dimensions:

        sum x log s + (1 - x) log(1 - s) - sum (exp(v) + m^2 - 1 - v) / 2

    Args:
        images: x, in [0, 1].
        logits: In the shape of the images.
        mean, log_variance: m and v, `(batch, latent_size)`.
    """
    pixels = images * ops.log_sigmoid(logits) + (1 - images) * ops.log_sigmoid(-logits)
    divergence = ops.exp(log_variance) + ops.square(mean) - 1 - log_variance
    return ops.sum(pixels, axis=(1, 2, 3)) - 0.5 * ops.sum(divergence, axis=-1)


def mutate(images, rate, random):
    """Replaces pixels, each with the probability `rate`, by one of 256 grey values.

    Args:
        images: Float32 `(batch, height, width, channels)` in [0, 1].
        rate: Fraction.
        random: A `np.random.Generator`.
    """
    values = random.integers(0, 256, images.shape).astype(np.float32) / 255
    return np.where(random.random(images.shape) < rate, values, images)


def _known_images(data):
    parts = [
        images if labels is None else images[labels != UNKNOWN]
        for images, labels in batches.iterate(data)
    ]
    if not sum(map(len, parts)):
        raise ValueError("there is no known image to learn from")
    return np.concatenate(parts)
