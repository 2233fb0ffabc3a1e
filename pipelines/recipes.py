"""Recipes: everything that decides a training run, in one small frozen object.

A recipe holds plain values only; `build_model`, `build_loss` and `build_optimizer` turn
it into Keras objects. The resolved recipe is saved in the `run.json` of what it made.
"""

import dataclasses

import keras

from ood_keras import losses, models
from ood_keras.conventions import check_count, check_number
from ood_keras.pipelines import preprocessing

LOSSES = {
    "open_set": "the paper's, Eq. 4, over N + 1 classes",
    "extra_class": "plain cross-entropy over N + 1 classes",
    "outlier_exposure": "Hendrycks et al. 2019, over N classes",
    "entropic_open_set": "Dhamija et al. 2018, over N classes",
    "cross_entropy": "over N classes, of known images alone",
    "confident_classifier": "Lee et al. 2018, with a GAN, of known images alone",
    "prior_network": "Malinin and Gales 2018, over N classes",
    "likelihood_ratio": "Ren et al. 2019, autoencoders of known images, no classifier",
}
_WITH_OBJECTOSPHERE = ("open_set", "entropic_open_set")
_WITH_UNKNOWN_WEIGHT = ("open_set", "outlier_exposure")
_KNOWN_ALONE = ("cross_entropy", "confident_classifier", "likelihood_ratio")
# The energy of a prior network is -log of its Dirichlet distribution's precision.
_SCORES = {"prior_network": "energy", "likelihood_ratio": None}
_COUNTS = (
    "epochs",
    "batch_size",
    "unknown_images",
    "synthetic_images",
    "unknown_per_epoch",
    "hidden_size",
    "feature_size",
)
_NUMBERS = {
    "dropout": "[0, 1)",
    "beta": "[0, 1]",
    # At most 1 on the softmax, which the loss sees to.
    "gamma": "(0, inf)",
    "objectosphere_weight": "[0, inf)",
    "unknown_weight": "[0, inf)",
    "confidence_weight": "[0, inf)",
    "learning_rate": "(0, inf)",
    "momentum": "[0, 1)",
    "weight_decay": "[0, inf)",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train and how.

    Attributes:
        name: The recipe's name.
        epochs: Passes over the known training images.
        batch_size: Images per step, known and unknown together.
        loss: A key of `LOSSES`.
        unknown_images: How many real exposure images to draw, once and for the whole
            run, evenly over the sources other than `synthetic`; `None` stands for the
            number of known training images divided by the number of known classes.
        synthetic_images: How many images `synthetic` makes, once and for the whole run.
        unknown_per_epoch: Unknown images in an epoch, evenly over all sources; `None`
            stands for the paper's share, as for `unknown_images`.
        block: "modified_se" (the paper's block), "se" (plain squeeze-and-excitation) or
            "none".
        filters: Channels of each stage of the network.
        hidden_size: Units of the dense layer before the features.
        feature_size: Units of the `features` layer; 2 can be drawn as it is.
        dropout: Dropout rate before and after the `features` layer.
        beta: Weight of the true class, Eq. 2; `None` stands for N / (N + 1).
        gamma: Smallest norm asked of known images, Eq. 3; `None` stands for 0.9 on the
            softmax and 50 on features.
        objectosphere_weight: Lambda of Eq. 4; of "open_set" and "entropic_open_set".
        objectosphere_on: "softmax" or "features".
        unknown_weight: Weight of an unknown image in the cross-entropy of "open_set"
            and "outlier_exposure"; `None` stands for the 1/N of Eq. 2 and for 0.5.
        confidence_weight: Weight of the confidence loss of "confident_classifier".
        learning_rate: The (highest) learning rate of SGD, for "likelihood_ratio" of
            Adam.
        momentum: Momentum of SGD; above 0 it is Nesterov's. Adam's first moment.
        weight_decay: Decoupled weight decay of the optimizer.
        schedule: "constant", or "cosine": a linear warm-up over half an epoch, then
            down to 0 along a cosine at the last step.
        augment: Name of an augmentation of `ood_keras.pipelines.preprocessing`, or
            `None`.
    """

    name: str
    epochs: int
    batch_size: int = 128
    loss: str = "open_set"
    unknown_images: int | None = None
    synthetic_images: int = 30_000
    unknown_per_epoch: int | None = None
    block: str = "modified_se"
    filters: tuple[int, ...] = (32, 64, 96, 96)
    hidden_size: int = 256
    feature_size: int = 128
    dropout: float = 0.3
    beta: float | None = None
    gamma: float | None = None
    objectosphere_weight: float = 0.1
    objectosphere_on: str = "softmax"
    unknown_weight: float | None = None
    confidence_weight: float = 1.0
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    augment: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "filters", _filters(self.filters))
        for field, allowed in (
            ("schedule", ("constant", "cosine")),
            ("block", ("modified_se", "se", "none")),
            ("objectosphere_on", ("softmax", "features")),
            ("loss", tuple(LOSSES)),
        ):
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"`{field}` must be one of {', '.join(map(repr, allowed))}. "
                    f"Received: {field}={getattr(self, field)!r}"
                )
        if self.augment is not None:
            preprocessing.check_augmentation(self.augment)
        for field, value in list(vars(self).items()):
            if value is None and field in OPTIONAL:
                continue
            if field in _COUNTS:
                object.__setattr__(self, field, check_count(field, value))
            elif field in _NUMBERS:
                check_number(field, value, _NUMBERS[field])
        if self.unknown_weight is not None and self.loss not in _WITH_UNKNOWN_WEIGHT:
            raise ValueError(
                f"`unknown_weight` is of the losses {_WITH_UNKNOWN_WEIGHT}; leave it "
                f"None. Received: unknown_weight={self.unknown_weight}, "
                f"loss={self.loss!r}"
            )
        if (
            self.loss == "entropic_open_set"
            and self.objectosphere_on == "softmax"
            and self.objectosphere_weight
        ):
            raise ValueError(
                "on the softmax, the objectosphere loss needs the extra class that "
                "'entropic_open_set' has not: give objectosphere_on='features' (with "
                "objectosphere_weight=1e-4) or objectosphere_weight=0"
            )

    @property
    def shows_unknown(self):
        """Whether training is shown unknown images."""
        return self.loss not in _KNOWN_ALONE

    @property
    def unknown_class(self):
        """Whether the network has the unknown as its last logit."""
        return self.loss in ("open_set", "extra_class")

    @property
    def score(self):
        """Name of the score that the best epoch is chosen by, see `training.fit`.

        `None` where there is no classifier.
        """
        if self.unknown_class:
            return "unknown_probability"
        return _SCORES.get(self.loss, "msp")

    @property
    def outputs(self):
        """Names of the outputs that have a loss; "features" is one of two."""
        on_features = (
            self.loss in _WITH_OBJECTOSPHERE
            and self.objectosphere_on == "features"
            and self.objectosphere_weight > 0
        )
        return ("logits", "features") if on_features else ("logits",)

    def build_model(self, input_shape, num_classes):
        """Returns the network; its output is a dict if two outputs have a loss.

        Not for "likelihood_ratio", whose model is `training.baselines`' own.
        """
        arguments = {
            "unknown_class": self.unknown_class,
            "filters": self.filters,
            "hidden_size": self.hidden_size,
            "feature_size": self.feature_size,
            "dropout": self.dropout,
        }
        if self.block == "modified_se":
            model = models.se_alexnet(input_shape, num_classes, **arguments)
        else:
            model = models.alexnet(
                input_shape,
                num_classes,
                squeeze_excitation=self.block == "se",
                **arguments,
            )
        return models.with_features(model) if len(self.outputs) > 1 else model

    def build_loss(self, num_classes):
        """Returns the loss, or a dict with one for each of `outputs`."""
        on_softmax = self.objectosphere_on == "softmax"
        if self.loss == "open_set":
            loss = losses.OpenSetLoss(
                num_classes=num_classes,
                beta=self.beta,
                gamma=self.gamma if on_softmax else None,
                objectosphere_weight=self.objectosphere_weight if on_softmax else 0.0,
                unknown_weight=self.unknown_weight,
            )
        elif self.loss == "extra_class":
            loss = losses.ExtraClassCrossEntropy(num_classes)
        elif self.loss == "outlier_exposure":
            weight = 0.5 if self.unknown_weight is None else self.unknown_weight
            loss = losses.OutlierExposure(num_classes, weight)
        elif self.loss in ("entropic_open_set", "confident_classifier"):
            loss = losses.EntropicOpenSet(num_classes)
        elif self.loss == "prior_network":
            loss = losses.PriorNetwork(num_classes)
        elif self.loss == "likelihood_ratio":
            loss = None  # The model computes it.
        else:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if len(self.outputs) == 1:
            return loss
        on_features = losses.Objectosphere(num_classes, self.gamma, on="features")
        return {"logits": loss, "features": on_features}

    def compile(self, model, num_classes, steps_per_epoch):
        """Compiles what `build_model` returned."""
        weights = {"logits": 1.0, "features": self.objectosphere_weight}
        model.compile(
            self.build_optimizer(steps_per_epoch),
            loss=self.build_loss(num_classes),
            loss_weights=weights if len(self.outputs) > 1 else None,
            # XLA makes convolutions on a CPU three times slower than oneDNN's kernels.
            jit_compile=False,
        )

    def build_optimizer(self, steps_per_epoch):
        """Returns SGD, or Adam for "likelihood_ratio", with this recipe's schedule."""
        rate = self.learning_rate
        if self.schedule == "cosine":
            warmup_steps = max(1, steps_per_epoch // 2)
            rate = keras.optimizers.schedules.CosineDecay(
                initial_learning_rate=0.0,
                warmup_target=self.learning_rate,
                warmup_steps=warmup_steps,
                decay_steps=max(1, steps_per_epoch * self.epochs - warmup_steps),
            )
        if self.loss == "likelihood_ratio":
            return keras.optimizers.Adam(
                rate, beta_1=self.momentum, weight_decay=self.weight_decay or None
            )
        return keras.optimizers.SGD(
            learning_rate=rate,
            momentum=self.momentum,
            nesterov=self.momentum > 0,
            weight_decay=self.weight_decay or None,
        )


# Fields that may be `None`.
OPTIONAL = tuple(
    field.name for field in dataclasses.fields(Recipe) if field.default is None
)


def _filters(filters):
    """Returns `filters` as a tuple, since JSON has lists only."""
    try:
        if not isinstance(filters, str):
            filters = tuple(filters)
            if filters:
                return tuple(check_count("filters", each) for each in filters)
    except (TypeError, ValueError):
        pass
    raise ValueError(
        "`filters` must be a list of the channels of each stage, integers >= 1, as in "
        "filters=[8,8]. "
        f"Received: filters={filters!r}"
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
        # Drawn or written characters, in ten minutes; see results/table1.
        Recipe(
            name="fast",
            epochs=10,
            unknown_images=6000,
            filters=(32, 64, 96),
            hidden_size=128,
            weight_decay=0.003,
            augment="random_shift",
        ),
        # Things with more to them than strokes, and no left or right; three times as
        # long.
        Recipe(
            name="wide",
            epochs=18,
            unknown_images=6000,
            filters=(48, 96, 128),
            hidden_size=128,
            learning_rate=0.08,
            weight_decay=0.002,
            augment="random_shift_flip_erase",
        ),
        # For a thousand images rather than sixty thousand.
        Recipe(
            name="demo",
            epochs=12,
            unknown_images=2000,
            synthetic_images=2000,
            learning_rate=0.02,
        ),
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
        ValueError: unknown recipe or field, the message lists the known ones; a value
            that does not fit its field.

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
