"""Recipes: everything that decides a training run, in one small frozen object.

A recipe is plain data. Its `objective`, an object of `training.objectives`, turns it
into a network, losses and an optimizer. The resolved recipe is saved in the `run.json`
of what it made.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from ood_keras.conventions import check_count, check_number
from ood_keras.pipelines import augmentations
from ood_keras.training import objectives
from ood_keras.types import Json

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


# The loss of an adopted network, which was trained for no epoch here.
ELSEWHERE = "elsewhere"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train and how.

    Attributes:
        name: The recipe's name.
        epochs: Passes over the known training images.
        batch_size: Images per step, known and unknown together.
        loss: Name of an objective, see `objectives.names`.
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
        augment: Name of an augmentation, see `pipelines.augmentations.names`, or
            `None`.
        validation_augment: Name of an augmentation that validation images pass through
            once, known and unknown alike, before they choose epoch, detector and
            threshold; `None` leaves them as they are.
    """

    name: str
    epochs: int
    batch_size: int = 128
    loss: str = "open_set"
    unknown_images: int | None = None
    synthetic_images: int = 30_000
    unknown_per_epoch: int | None = None
    block: Literal["modified_se", "se", "none"] = "modified_se"
    filters: tuple[int, ...] = (32, 64, 96, 96)
    hidden_size: int = 256
    feature_size: int = 128
    dropout: float = 0.3
    beta: float | None = None
    gamma: float | None = None
    objectosphere_weight: float = 0.1
    objectosphere_on: Literal["softmax", "features"] = "softmax"
    unknown_weight: float | None = None
    confidence_weight: float = 1.0
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "cosine"
    augment: str | None = None
    validation_augment: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", _filters(self.filters))
        for field, allowed in (
            ("schedule", ("constant", "cosine")),
            ("block", ("modified_se", "se", "none")),
            ("objectosphere_on", ("softmax", "features")),
        ):
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"`{field}` must be one of {', '.join(map(repr, allowed))}. "
                    f"Received: {field}={getattr(self, field)!r}"
                )
        for augmentation in (self.augment, self.validation_augment):
            if augmentation is not None:
                augmentations.get(augmentation)  # It refuses what is none.
        for field, value in list(vars(self).items()):
            if value is None and field in OPTIONAL:
                continue
            if field == "epochs" and value == 0 and self.loss == ELSEWHERE:
                continue
            if field in _COUNTS:
                object.__setattr__(self, field, check_count(field, value))
            elif field in _NUMBERS:
                check_number(field, value, _NUMBERS[field])
        # It refuses what does not fit it.
        _ = self.objective

    @property
    def objective(self) -> objectives.Objective:
        """The training method, with this recipe's numbers."""
        return objectives.get(self.loss)(self)

    def to_json(self) -> Json:
        """Returns what `run.json` records, from which `Recipe(**...)` makes it again.

        A field that earlier versions had not is left out where it has its default, so
        that their runs can be resumed.
        """
        if self.loss == ELSEWHERE:
            return {
                "name": self.name,
                "epochs": 0,
                "loss": self.loss,
                "block": self.block,
            }
        fields = dataclasses.asdict(self)
        if self.validation_augment is None:
            del fields["validation_augment"]
        return fields


# Fields that may be `None`.
OPTIONAL: tuple[str, ...] = tuple(
    field.name for field in dataclasses.fields(Recipe) if field.default is None
)


def _filters(filters: Iterable[int]) -> tuple[int, ...]:
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
        # Drawn or written characters, told by their shape: every image, known or
        # unknown, in a random rendering, and more unknowns to tell from.
        Recipe(
            name="robust",
            epochs=12,
            unknown_images=60_000,
            unknown_per_epoch=12_000,
            filters=(32, 64, 96),
            hidden_size=128,
            weight_decay=0.002,
            augment="random_rendering",
            validation_augment="random_rendering",
        ),
        # The same for things with more to them than strokes, and no left or right.
        Recipe(
            name="robust_wide",
            epochs=24,
            unknown_images=60_000,
            unknown_per_epoch=9_000,
            filters=(48, 96, 128),
            hidden_size=128,
            learning_rate=0.08,
            weight_decay=0.002,
            augment="random_photo_rendering",
            validation_augment="random_photo_rendering",
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


def names() -> list[str]:
    """Returns the names of all recipes."""
    return sorted(_RECIPES)


def get(name: str, **overrides: Any) -> Recipe:
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
