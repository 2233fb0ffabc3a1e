"""Recipes: everything that decides a training run, in one small frozen object.

A recipe is plain data. Its `objective`, an object of `training.objectives`, turns it
into a network, losses and an optimizer. The resolved recipe is saved in the `run.json`
of what it made.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from ood_keras import models
from ood_keras.conventions import check_count, check_number, is_integer
from ood_keras.pipelines import augmentations
from ood_keras.training import objectives
from ood_keras.types import Json

_COUNTS = (
    "epochs",
    "feature_renderings",
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
    "fine_tune_learning_rate": "(0, inf)",
    "logit_temperature": "(0, inf)",
    "feature_temperature": "(0, inf)",
    "label_smoothing": "[0, 1)",
    "mixup": "(0, inf)",
}
_NETWORKS = ("alexnet", "residual")


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
        synthetic_images: How many images `synthetic` makes, once and for the whole run;
            `None` stands for as many as there are known training images.
        unknown_per_epoch: Unknown images in an epoch, evenly over all sources; `None`
            stands for the paper's share, as for `unknown_images`.
        network: "alexnet" or "residual", the network to train from random weights; see
            `ood_keras.models`.
        backbone: A network of `keras.applications` to begin with in its place, by name,
            as "MobileNetV2:alpha=0.35", or of KerasHub, as "keras_hub:PRESET", or
            `None`; see `models.transfer`.
        backbone_weights: Its weights: "imagenet", the path of a file, or `None` for
            random ones.
        fine_tune_epochs: In this many of the `epochs`, the last ones, a backbone with
            pretrained weights trains too; before, it is frozen.
        fine_tune_learning_rate: The learning rate in these epochs; `None` stands for a
            tenth of `learning_rate`.
        feature_renderings: How many renderings of each training image a frozen backbone
            sees, the image as it is among them; the others are by `augment`.
        block: "modified_se" (the paper's block), "se" (plain squeeze-and-excitation) or
            "none".
        filters: Channels of each stage of the network; on a backbone, the last number
            is that of the map which the block is on.
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
        logit_temperature: Where the loss sees logits of one length, one over that
            length, see `losses.LogitNorm` (0.04 in its paper), or `None`.
        feature_temperature: Where the classifier sees features of one length in
            training, one over that length, see `layers.TrainTimeNorm` (0.1 in the paper
            of T2FNorm), or `None`.
        label_smoothing: Weight of the other known classes, see `losses.LabelSmoothing`.
        mixup: Alpha of `training.RegMixup` (10 in its paper), or `None`.
        mixed_precision: "bfloat16" or "float16": the network computes in it, its
            weights and its losses in float32, and so does what is made of it; `None`
            computes all in float32.
        learning_rate: The (highest) learning rate of SGD, for "likelihood_ratio" of
            Adam.
        momentum: Momentum of SGD; above 0 it is Nesterov's. Adam's first moment.
        weight_decay: Decoupled weight decay of the optimizer.
        schedule: "constant", or "cosine": a linear warm-up over half an epoch, then
            down to 0 along a cosine at the last step.
        augment: Name of an augmentation, see `pipelines.augmentations.names`, or
            several, joined by "+", one after the other; or `None`.
        validation_augment: Name of an augmentation that validation images pass through
            once, known and unknown alike, before they choose epoch, detector and
            threshold; `None` leaves them as they are.
    """

    name: str
    epochs: int
    batch_size: int = 128
    loss: str = "open_set"
    unknown_images: int | None = None
    synthetic_images: int | None = 30_000
    unknown_per_epoch: int | None = None
    network: Literal["alexnet", "residual"] = "alexnet"
    backbone: str | None = None
    backbone_weights: str | None = "imagenet"
    fine_tune_epochs: int = 0
    fine_tune_learning_rate: float | None = None
    feature_renderings: int = 4
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
    logit_temperature: float | None = None
    feature_temperature: float | None = None
    label_smoothing: float = 0.0
    mixup: float | None = None
    mixed_precision: models.precision.MixedPrecision | None = None
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
            ("network", _NETWORKS),
            ("block", ("modified_se", "se", "none")),
            ("objectosphere_on", ("softmax", "features")),
            ("mixed_precision", (None, *models.precision.MIXED_PRECISIONS)),
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
        self._check_backbone()
        # It refuses what does not fit it.
        _ = self.objective

    def _check_backbone(self) -> None:
        epochs = self.fine_tune_epochs
        if not is_integer(epochs) or not 0 <= epochs <= self.epochs:
            raise ValueError(
                f"`fine_tune_epochs` must be an integer from 0 to the {self.epochs} "
                f"`epochs`. Received: fine_tune_epochs={epochs!r}"
            )
        if epochs and not self.is_pretrained:
            raise ValueError(
                "`fine_tune_epochs` needs a backbone with pretrained weights; any "
                "other network trains as a whole from the start. Received: "
                f"fine_tune_epochs={epochs}, backbone={self.backbone!r}, "
                f"backbone_weights={self.backbone_weights!r}"
            )

        if self.mixup is not None and self.is_pretrained:
            raise ValueError(
                "`mixup` mixes images, and a frozen backbone is shown none while the "
                "head trains. Leave it None, or train all of the backbone from the "
                f"start (backbone_weights=none). Received: mixup={self.mixup!r}"
            )

    @property
    def is_pretrained(self) -> bool:
        """Whether the network begins with a frozen backbone."""
        return self.backbone is not None and self.backbone_weights is not None

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
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in _LATER or value != defaults[name]
        }


# Fields that may be `None`.
OPTIONAL: tuple[str, ...] = (
    "synthetic_images",
    "backbone_weights",
    *(field.name for field in dataclasses.fields(Recipe) if field.default is None),
)
# Fields that the first recorded runs had not.
_LATER = (
    "validation_augment",
    "network",
    "backbone",
    "backbone_weights",
    "fine_tune_epochs",
    "fine_tune_learning_rate",
    "feature_renderings",
    "logit_temperature",
    "feature_temperature",
    "label_smoothing",
    "mixup",
    "mixed_precision",
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
            validation_augment="mild_rendering",
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
            validation_augment="mild_photo_rendering",
        ),
        # Photographs: on features of a network that was trained with others.
        Recipe(
            name="photos",
            epochs=20,
            batch_size=64,
            synthetic_images=None,
            backbone="MobileNetV2",
            filters=(128,),
            learning_rate=0.02,
            weight_decay=0.002,
            augment="random_photo_rendering",
            validation_augment="mild_photo_rendering",
        ),
        # Photographs where no pretrained network serves; needs more of them, and time.
        Recipe(
            name="photos_scratch",
            epochs=40,
            batch_size=64,
            synthetic_images=None,
            network="residual",
            filters=(32, 64, 128),
            weight_decay=0.002,
            augment="random_photo_rendering",
            validation_augment="mild_photo_rendering",
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
