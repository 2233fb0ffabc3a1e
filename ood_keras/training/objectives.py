"""Objectives: one small class per training method, found by name.

An objective says which network, loss and optimizer a recipe trains, whether training is
shown unknown images, and which score chooses the best epoch. To add one of your own,
subclass `Objective`, give it a `name` and decorate it with `register`; recipes then
take that name as their `loss`.

>>> @objectives.register
... class FocalLoss(objectives.Objective):
...     name = "focal"
...     description = "focal cross-entropy over N classes, of known images alone"
...     shows_unknown = False
...
...     def build_loss(self, num_classes):
...         return MyFocalLoss(num_classes)
>>> recipe = recipes.get("fast", loss="focal")
"""

from typing import TYPE_CHECKING, Any

import keras

from ood_keras import losses, models, plugins
from ood_keras.types import Images, ImageShape, Validator

if TYPE_CHECKING:
    from ood_keras import training

_OBJECTIVES: dict[str, type["Objective"]] = {}


def register(objective: type["Objective"]) -> type["Objective"]:
    """Makes an objective known by its `name`; a class decorator.

    Raises:
        TypeError: it is no subclass of `Objective` with a name and a description.
        ValueError: another class has the name already.
    """
    if not (isinstance(objective, type) and issubclass(objective, Objective)):
        raise TypeError(
            "expected a subclass of training.objectives.Objective. Received: "
            f"{objective!r}"
        )
    if not (objective.name and objective.description):
        raise TypeError(
            f"{objective.__name__} needs a `name` and a `description`, both text"
        )
    taken = _OBJECTIVES.get(objective.name)
    plugins.check_free("objective", objective.name, taken, objective)
    _OBJECTIVES[objective.name] = objective
    return objective


def names() -> list[str]:
    """The names of all objectives."""
    return list(_OBJECTIVES)


def get(name: str) -> type["Objective"]:
    """The objective `name`, a class that takes a recipe.

    Raises:
        ValueError: there is none of this name; the message lists those there are.
    """
    if not isinstance(name, str) or name not in _OBJECTIVES:
        raise plugins.UnknownNameError(
            f"`loss` must be one of {', '.join(map(repr, _OBJECTIVES))}. "
            f"Received: loss={name!r}"
        )
    return _OBJECTIVES[name]


class Objective:
    """How one recipe trains; subclasses say what differs from a plain classifier.

    Args:
        recipe: The `recipes.Recipe`, whose numbers it takes.

    Attributes:
        name: What recipes call it.
        description: What it is, in a few words, with its source.
        shows_unknown: Whether training is shown unknown images.
        unknown_class: Whether the network has the unknown as its last logit.
        score: Name of the score that the best epoch is chosen by, see `training.fit`;
            `None` where there is no classifier.
        weighs_unknown: Whether it takes the recipe's `unknown_weight`.
        takes_objectosphere: Whether it takes the recipe's objectosphere fields.
        takes_features: Whether it can train on features of a frozen backbone.
    """

    name: str = ""
    description: str = ""
    shows_unknown: bool = True
    unknown_class: bool = False
    score: str | None = "msp"
    weighs_unknown: bool = False
    takes_objectosphere: bool = False
    takes_features: bool = True

    def __init__(self, recipe: "training.recipes.Recipe") -> None:
        self.recipe = recipe
        if recipe.backbone is not None and not self.takes_features:
            raise ValueError(
                f"{self.name!r} builds networks of its own and takes no backbone. "
                f"Received: loss={self.name!r}, backbone={recipe.backbone!r}"
            )
        changes = [
            name
            for name in (
                "logit_temperature",
                "label_smoothing",
                "mixup",
                "mixed_precision",
            )
            if getattr(recipe, name)
        ]
        if changes and not self.takes_features:
            raise ValueError(
                f"{self.name!r} has a training step of its own, which takes no "
                f"{', '.join(changes)}; leave them out"
            )
        if recipe.unknown_weight is not None and not self.weighs_unknown:
            weighing = tuple(
                name for name in _OBJECTIVES if _OBJECTIVES[name].weighs_unknown
            )
            raise ValueError(
                f"`unknown_weight` is of the losses {weighing}; leave it None. "
                f"Received: unknown_weight={recipe.unknown_weight}, "
                f"loss={self.name!r}"
            )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that have a loss; "features" is one of two."""
        on_features = (
            self.takes_objectosphere
            and self.recipe.objectosphere_on == "features"
            and self.recipe.objectosphere_weight > 0
        )
        return ("logits", "features") if on_features else ("logits",)

    def build_loss(self, num_classes: int) -> keras.losses.Loss | None:
        """Returns the loss on the logits; `None` where the model computes it."""
        raise NotImplementedError(
            f"the objective {self.name!r} must define build_loss(num_classes)"
        )

    def build_losses(
        self, num_classes: int
    ) -> keras.losses.Loss | dict[str, keras.losses.Loss] | None:
        """Returns the loss, or a dict with one for each of `outputs`."""
        loss = self._change_loss(self.build_loss(num_classes), num_classes)
        if len(self.outputs) == 1:
            return loss
        on_features = losses.Objectosphere(
            num_classes, self.recipe.gamma, on="features"
        )
        return {"logits": loss, "features": on_features}

    def _change_loss(self, loss, num_classes):
        """Returns the loss with what the recipe wraps around it."""
        recipe = self.recipe
        if recipe.label_smoothing:
            loss = losses.LabelSmoothing(num_classes, loss, recipe.label_smoothing)
        if recipe.logit_temperature is not None:
            loss = losses.LogitNorm(num_classes, loss, recipe.logit_temperature)
        return loss

    def build_model(self, input_shape: ImageShape, num_classes: int) -> keras.Model:
        """Returns the network; its output is a dict if two outputs have a loss."""
        with models.mixed_precision(self.recipe.mixed_precision):
            model = self._build_network(input_shape, num_classes)
            return models.with_features(model) if len(self.outputs) > 1 else model

    def _build_network(self, input_shape, num_classes):
        recipe = self.recipe
        arguments: dict[str, Any] = {
            "unknown_class": self.unknown_class,
            "filters": recipe.filters,
            "hidden_size": recipe.hidden_size,
            "feature_size": recipe.feature_size,
            "dropout": recipe.dropout,
            "feature_temperature": recipe.feature_temperature,
        }
        if recipe.backbone is not None:
            arguments["filters"] = recipe.filters[-1]
            return models.transfer(
                recipe.backbone,
                input_shape,
                num_classes,
                weights=recipe.backbone_weights,
                block=recipe.block,
                **arguments,
            )
        if recipe.network == "residual":
            return models.residual(
                input_shape, num_classes, block=recipe.block, **arguments
            )
        if recipe.block == "modified_se":
            return models.se_alexnet(input_shape, num_classes, **arguments)
        return models.alexnet(
            input_shape,
            num_classes,
            squeeze_excitation=recipe.block == "se",
            **arguments,
        )

    def build_optimizer(self, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        """Returns SGD with the recipe's schedule."""
        recipe = self.recipe
        return keras.optimizers.SGD(
            learning_rate=self.build_schedule(steps_per_epoch),
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            weight_decay=recipe.weight_decay or None,
        )

    def build_schedule(
        self, steps_per_epoch: int
    ) -> float | keras.optimizers.schedules.LearningRateSchedule:
        """Returns the learning rate, a number or a schedule of Keras."""
        recipe = self.recipe
        if recipe.schedule == "constant":
            return recipe.learning_rate
        warmup_steps = max(1, steps_per_epoch // 2)
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=recipe.learning_rate,
            warmup_steps=warmup_steps,
            decay_steps=max(1, steps_per_epoch * recipe.epochs - warmup_steps),
        )

    def compile(
        self, model: keras.Model, num_classes: int, steps_per_epoch: int
    ) -> None:
        """Compiles what `build_model` returned."""
        weights = {"logits": 1.0, "features": self.recipe.objectosphere_weight}
        optimizer = self.build_optimizer(steps_per_epoch)
        if self.recipe.mixed_precision == "float16":
            # As Keras does it where the whole model has that policy; the part on top of
            # a frozen backbone has not.
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(
            optimizer,
            loss=self.build_losses(num_classes),
            loss_weights=weights if len(self.outputs) > 1 else None,
            # XLA makes convolutions on a CPU three times slower than oneDNN's kernels.
            jit_compile=False,
        )

    def build_validation(
        self, model: keras.Model, known: Images, unknown: Images | None
    ) -> tuple[Images, Images | None] | Validator:
        """Returns what `training.fit` takes as its `validation`.

        Args:
            model: What `build_model` returned.
            known: A dataset of known validation images.
            unknown: A dataset of unknown validation images, or `None`.
        """
        return known, unknown


@register
class OpenSet(Objective):
    name = "open_set"
    description = "the paper's, Eq. 4, over N + 1 classes"
    unknown_class = True
    score = "unknown_probability"
    weighs_unknown = True
    takes_objectosphere = True

    def build_loss(self, num_classes: int) -> keras.losses.Loss:
        recipe = self.recipe
        on_softmax = recipe.objectosphere_on == "softmax"
        return losses.OpenSetLoss(
            num_classes=num_classes,
            beta=recipe.beta,
            gamma=recipe.gamma if on_softmax else None,
            objectosphere_weight=recipe.objectosphere_weight if on_softmax else 0.0,
            unknown_weight=recipe.unknown_weight,
        )


@register
class ExtraClass(Objective):
    name = "extra_class"
    description = "plain cross-entropy over N + 1 classes"
    unknown_class = True
    score = "unknown_probability"

    def build_loss(self, num_classes: int) -> keras.losses.Loss:
        return losses.ExtraClassCrossEntropy(num_classes)


@register
class OutlierExposure(Objective):
    name = "outlier_exposure"
    description = "Hendrycks et al. 2019, over N classes"
    weighs_unknown = True

    def build_loss(self, num_classes: int) -> keras.losses.Loss:
        weight = self.recipe.unknown_weight
        return losses.OutlierExposure(num_classes, 0.5 if weight is None else weight)


@register
class EntropicOpenSet(Objective):
    name = "entropic_open_set"
    description = "Dhamija et al. 2018, over N classes"
    takes_objectosphere = True

    def __init__(self, recipe: "training.recipes.Recipe") -> None:
        super().__init__(recipe)
        if recipe.objectosphere_on == "softmax" and recipe.objectosphere_weight:
            raise ValueError(
                "on the softmax, the objectosphere loss needs the extra class that "
                "'entropic_open_set' has not: give objectosphere_on='features' (with "
                "objectosphere_weight=1e-4) or objectosphere_weight=0"
            )

    def build_loss(self, num_classes: int) -> keras.losses.Loss:
        return losses.EntropicOpenSet(num_classes)


@register
class CrossEntropy(Objective):
    name = "cross_entropy"
    description = "over N classes, of known images alone"
    shows_unknown = False

    def build_loss(self, num_classes: int) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@register
class ConfidentClassifier(Objective):
    name = "confident_classifier"
    description = "Lee et al. 2018, with a GAN, of known images alone"
    shows_unknown = False
    takes_features = False

    def build_loss(self, num_classes: int) -> keras.losses.Loss:
        return losses.EntropicOpenSet(num_classes)

    def build_model(self, input_shape: ImageShape, num_classes: int) -> keras.Model:
        from ood_keras.training import confident_classifier

        return confident_classifier.ConfidentClassifier(
            super().build_model(input_shape, num_classes),
            confidence_weight=self.recipe.confidence_weight,
        )


@register
class PriorNetwork(Objective):
    name = "prior_network"
    description = "Malinin and Gales 2018, over N classes"
    # The energy of a prior network is -log of its Dirichlet distribution's precision.
    score = "energy"

    def build_loss(self, num_classes: int) -> keras.losses.Loss:
        return losses.PriorNetwork(num_classes)


@register
class LikelihoodRatio(Objective):
    name = "likelihood_ratio"
    description = "Ren et al. 2019, autoencoders of known images, no classifier"
    shows_unknown = False
    takes_features = False
    score = None

    def build_loss(self, num_classes: int) -> None:
        return None  # The model computes it.

    def build_model(self, input_shape: ImageShape, num_classes: int) -> keras.Model:
        # Not with every command: the baselines import scikit-learn.
        from ood_keras.training.baselines import likelihood_ratio

        return likelihood_ratio.LikelihoodRatio().build(input_shape)

    def build_validation(
        self, model: keras.Model, known: Images, unknown: Images | None
    ) -> Validator:
        from ood_keras.training.baselines import likelihood_ratio

        return likelihood_ratio.KnownBound(model, known)

    def build_optimizer(self, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        """Returns Adam with the recipe's schedule."""
        return keras.optimizers.Adam(
            self.build_schedule(steps_per_epoch),
            beta_1=self.recipe.momentum,
            weight_decay=self.recipe.weight_decay or None,
        )


@register
class Elsewhere(Objective):
    name = "elsewhere"
    description = "of a network that was trained elsewhere and adopted as it is"
    shows_unknown = False

    def build_loss(self, num_classes: int) -> None:
        raise _cannot_train()

    def build_model(self, input_shape: ImageShape, num_classes: int) -> keras.Model:
        raise _cannot_train()


def _cannot_train() -> ValueError:
    return ValueError(
        "the loss 'elsewhere' stands for a network that was trained elsewhere and "
        "adopted as it is (ood-adopt); it cannot be trained or built anew. Choose "
        "another loss"
    )
