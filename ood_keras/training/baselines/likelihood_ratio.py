"""The likelihood ratio of two variational autoencoders."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import layers, ops

from ood_keras import batches
from ood_keras.conventions import UNKNOWN, check_count, check_fraction
from ood_keras.detectors.compiled import compile_function
from ood_keras.training.baselines.base import Baseline
from ood_keras.training.set_seed import set_seed
from ood_keras.types import Images, ImageShape, Json, Tensor


class LikelihoodRatio(Baseline):
    """How much likelier a model of known images finds an image than one of background.

    Ren et al., "Likelihood Ratios for Out-of-Distribution Detection" (NeurIPS 2019):
    the background model learns from images of which each pixel was replaced, with the
    probability `mutation_rate`, by a random grey value. What both models find likely is
    background, and cancels. Here both are small variational autoencoders, whose bound
    (ELBO) stands for the likelihood; the paper has PixelCNN++. Grey values enter as
    probabilities of Bernoulli pixels: for them the bound is a cross-entropy and not the
    logarithm of a density, whose normalisers would differ between the models and do not
    cancel. Scored by ELBO(background) - ELBO(full),
    each at the mean of the latent variable, so that scores are not random.

    `fit` trains at once. For a run that goes on after a kill, give `build(image_shape)`
    to `training.fit`, with `KnownBound` as its validation, and the result to
    `use_trained`.

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
        pair: The trained `AutoencoderPair`, known after `fit` or `use_trained`.

    Example:

    >>> ood_score = LikelihoodRatio().fit(images).score(test_images)
    """

    pair: "AutoencoderPair | None" = None

    def __init__(
        self,
        mutation_rate: float = 0.2,
        latent_size: int = 20,
        hidden_size: int = 500,
        epochs: int = 30,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        self.mutation_rate = check_fraction("mutation_rate", mutation_rate)
        self.latent_size = check_count("latent_size", latent_size)
        self.hidden_size = check_count("hidden_size", hidden_size)
        self.epochs = check_count("epochs", epochs)
        self.learning_rate = learning_rate
        self.batch_size = check_count("batch_size", batch_size)
        self.seed = seed

    def fit(self, data: Images) -> Self:
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
        pair = self.build(images.shape[1:])
        pair.compile(keras.optimizers.Adam(self.learning_rate), jit_compile=False)
        pair.fit(images, batch_size=self.batch_size, epochs=self.epochs, verbose=0)
        return self.use_trained(pair)

    def build(self, image_shape: ImageShape) -> "AutoencoderPair":
        """An untrained `AutoencoderPair` for images `(height, width, channels)`."""
        return AutoencoderPair(
            image_shape, self.latent_size, self.hidden_size, self.mutation_rate
        )

    def use_trained(self, pair: "AutoencoderPair") -> Self:
        """Scores with a pair that is trained already; returns the object itself."""
        self.pair = pair

        def ratio(images):
            bounds = pair(images, training=False)
            return bounds["background"] - bounds["full"]

        self._scorer = compile_function(ratio)
        return self

    scored = use_trained  # Its name in earlier versions.


@keras.saving.register_keras_serializable(package="ood_keras")
class AutoencoderPair(keras.Model):
    """A model of images and one of their background, trained side by side.

    No weight belongs to both, and Adam treats every weight for itself, so each learns
    what it would learn alone. All their state is among `variables`, so that
    `training.fit` resumes exactly. A saved one can be loaded once
    `ood_keras.training.baselines` is imported. Labels are not looked at, and no loss is
    compiled: the model minimises the negative sum of both bounds.

    Args:
        image_shape: `(height, width, channels)`.
        latent_size, hidden_size: As in `VariationalAutoencoder`.
        mutation_rate: Fraction of the pixels that the background model learns without.

    Call arguments:
        images: `(batch, height, width, channels)` in [0, 1], known ones.
        training: Whether the background model gets mutated images, and latent variables
            are drawn.

    Returns:
        Dict of `full` and `background`: the bounds of `elbo`, each `(batch,)`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_size: int,
        hidden_size: int,
        mutation_rate: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)
        self.latent_size = latent_size
        self.hidden_size = hidden_size
        self.mutation_rate = mutation_rate
        sizes = self.image_shape, latent_size, hidden_size
        self.full = VariationalAutoencoder(*sizes)
        self.background = VariationalAutoencoder(*sizes)
        self.mutation_seed = keras.random.SeedGenerator()
        self.built = True

    def call(self, images: Tensor, training: bool = False) -> dict[str, Tensor]:
        mutated = images
        if training:
            mutated = mutate(images, self.mutation_rate, self.mutation_seed)
        return {
            name: elbo(seen, *model(seen, training=training))
            for name, model, seen in (
                ("full", self.full, images),
                ("background", self.background, mutated),
            )
        }

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Tensor = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        return -ops.mean(y_pred["full"]) - ops.mean(y_pred["background"])

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "image_shape": list(self.image_shape),
            "latent_size": self.latent_size,
            "hidden_size": self.hidden_size,
            "mutation_rate": self.mutation_rate,
        }


class KnownBound:
    """What `training.fit` keeps the best epoch of an `AutoencoderPair` by.

    Args:
        pair: The `AutoencoderPair`.
        known: Known validation images, as `ood_keras.batches.iterate` takes; readable
            again.
    """

    def __init__(self, pair: AutoencoderPair, known: Images) -> None:
        self._bound = compile_function(
            lambda images: pair(images, training=False)["full"]
        )
        self._known = known

    def measure(self) -> dict[str, float]:
        """Returns `known_loss`: the mean of -`elbo` by the model of images."""
        bounds = [self._bound(images) for images, _ in batches.iterate(self._known)]
        return {"known_loss": -float(np.mean(np.concatenate(bounds)))}


class VariationalAutoencoder(keras.Model):
    """A variational autoencoder of dense layers; `elbo` is its bound.

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

    def __init__(
        self, image_shape: Sequence[int], latent_size: int, hidden_size: int
    ) -> None:
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
        self.built = True

    def call(
        self, images: Tensor, training: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = ops.split(self.encoder(images), 2, axis=-1)
        latent = mean
        if training:
            noise = keras.random.normal(ops.shape(mean), seed=self.noise_seed)
            latent = mean + ops.exp(0.5 * log_variance) * noise
        return self.decoder(latent), mean, log_variance


def elbo(images: Tensor, logits: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
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


def mutate(images: Tensor, rate: float, seed: keras.random.SeedGenerator) -> Tensor:
    """Replaces pixels, each with the probability `rate`, by one of 256 grey values.

    Args:
        images: Float `(batch, height, width, channels)` in [0, 1].
        rate: Fraction.
        seed: A `keras.random.SeedGenerator`.
    """
    shape = ops.shape(images)
    values = keras.random.randint(shape, 0, 256, seed=seed)
    replaced = keras.random.uniform(shape, seed=seed) < rate
    return ops.where(replaced, ops.cast(values, images.dtype) / 255, images)


def _known_images(data: Images) -> np.ndarray:
    parts = [
        images if labels is None else images[labels != UNKNOWN]
        for images, labels in batches.iterate(data)
    ]
    if not sum(map(len, parts)):
        raise ValueError("there is no known image to learn from")
    return np.concatenate(parts)
