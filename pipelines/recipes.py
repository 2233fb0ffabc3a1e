"""Recipes: everything that decides a training run, in one small frozen object.

A recipe holds plain values only; `build_model`, `build_loss` and `build_optimizer` turn
it into Keras objects. The resolved recipe is saved in the `run.json` of what it made.
"""

import dataclasses

import keras

from ood_keras import losses, models


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train and how.

    Attributes:
        name: The recipe's name.
        epochs: Passes over the known training images.
        batch_size: Images per step, known and unknown together.
        unknown_images: How many exposure images to draw, once and for the whole run,
            evenly over the unknown sources; `None` stands for the number of known
            training images divided by the number of known classes.
        block: "modified_se" (the paper's block), "se" (plain squeeze-and-excitation) or
            "none".
        feature_size: Units of the `features` layer; 2 can be drawn as it is.
        dropout: Dropout rate before and after the `features` layer.
        beta: Weight of the true class, Eq. 2; `None` stands for N / (N + 1).
        gamma: Smallest norm asked of known images, Eq. 3.
        objectosphere_weight: Lambda of Eq. 4.
        learning_rate: The (highest) learning rate of SGD.
        momentum: Momentum of SGD; above 0 it is Nesterov's.
        weight_decay: Decoupled weight decay of SGD.
        schedule: "constant", or "cosine": a linear warm-up over half an epoch, then
            down to 0 along a cosine at the last step.
        augment: Name of an augmentation of `ood_keras.pipelines.preprocessing`, or
            `None`.
    """

    name: str
    epochs: int
    batch_size: int = 128
    unknown_images: int | None = None
    block: str = "modified_se"
    feature_size: int = 128
    dropout: float = 0.3
    beta: float | None = None
    gamma: float = 0.9
    objectosphere_weight: float = 0.1
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    augment: str | None = None

    def __post_init__(self):
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(
                "`schedule` must be 'constant' or 'cosine'. "
                f"Received: schedule={self.schedule!r}"
            )
        if self.block not in ("modified_se", "se", "none"):
            raise ValueError(
                "`block` must be 'modified_se', 'se' or 'none'. "
                f"Received: block={self.block!r}"
            )
        for field in ("epochs", "batch_size", "feature_size", "learning_rate"):
            if getattr(self, field) <= 0:
                raise ValueError(
                    f"`{field}` must be positive. "
                    f"Received: {field}={getattr(self, field)}"
                )

    def build_model(self, input_shape, num_classes):
        """Returns the network with `num_classes` + 1 logits."""
        sizes = {"feature_size": self.feature_size, "dropout": self.dropout}
        if self.block == "modified_se":
            return models.se_alexnet(input_shape, num_classes, **sizes)
        return models.alexnet(
            input_shape, num_classes, squeeze_excitation=self.block == "se", **sizes
        )

    def build_loss(self, num_classes):
        """Returns the total loss, Eq. 4."""
        return losses.OpenSetLoss(
            num_classes=num_classes,
            beta=self.beta,
            gamma=self.gamma,
            objectosphere_weight=self.objectosphere_weight,
        )

    def build_optimizer(self, steps_per_epoch):
        """Returns SGD with this recipe's schedule."""
        rate = self.learning_rate
        if self.schedule == "cosine":
            warmup_steps = max(1, steps_per_epoch // 2)
            rate = keras.optimizers.schedules.CosineDecay(
                initial_learning_rate=0.0,
                warmup_target=self.learning_rate,
                warmup_steps=warmup_steps,
                decay_steps=max(1, steps_per_epoch * self.epochs - warmup_steps),
            )
        return keras.optimizers.SGD(
            learning_rate=rate,
            momentum=self.momentum,
            nesterov=self.momentum > 0,
            weight_decay=self.weight_decay or None,
        )


_RECIPES = {
    recipe.name: recipe
    for recipe in (
        # Section 3.6 of the paper.
        Recipe(
            name="paper",
            epochs=150,
            unknown_images=6000,
            learning_rate=0.01,
            momentum=0.0,
            schedule="constant",
        ),
        # The best result in minutes; see results/fast_mnist.
        Recipe(
            name="fast",
            epochs=8,
            unknown_images=6000,
            weight_decay=0.003,
            augment="random_shift",
        ),
        # For a thousand images rather than sixty thousand.
        Recipe(name="demo", epochs=12, unknown_images=2000, learning_rate=0.02),
    )
}


def names():
    """Returns the names of all recipes."""
    return sorted(_RECIPES)


def get(name, **overrides):
    """Returns the recipe `name`, with `overrides` in place of its own values.

    Args:
        name: One of `names()`.
        overrides: Values for fields of `Recipe`.

    Raises:
        ValueError: unknown recipe or field; the message lists the known ones.

    Example:

    >>> recipes.get("fast", epochs=2).epochs
    2
    """
    if name not in _RECIPES:
        raise ValueError(f"unknown recipe {name!r}; the recipes are: {names()}")
    fields = [field.name for field in dataclasses.fields(Recipe)]
    unknown = sorted(set(overrides) - set(fields))
    if unknown:
        raise ValueError(f"a recipe has no field {unknown}; its fields are: {fields}")
    return dataclasses.replace(_RECIPES[name], **overrides)
