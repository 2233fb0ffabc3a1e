"""Colour photographs and near unknowns: what trainings are worth at one budget.

CIFAR-10 against CIFAR-100 and farther sets; CIFAR-10 and MNIST with six classes known
and the other four unknown; flowers with each class left out in turn. All trainings but
one have as many epochs, and none is shown a real unknown image.
"""

from typing import Any

from ood_keras.study.grid import Known, Method, Study, Training
from ood_keras.training import recipes
from ood_keras.types import Json

NEAR = "cifar100@without_cifar10"
# Of the far ones, noise is a kind of the synthetic outliers.
FAR, NOISE = ("flowers", "mnist"), ("uniform_noise", "gaussian_noise")
CIFAR10, CLOSED_SET = "cifar10", "closed_set"
# What the others are compared with.
BASELINE = f"{CLOSED_SET}_msp"
# Training images of CIFAR-10 of which four classes stand in for all unknowns: on them
# the method is chosen that is asked about near and far ones.
DEVELOPMENT = f"{CIFAR10}_development"
# Of the recipe's network, of whose units none has a block unless a training adds it.
_PHOTOS: Json = {
    "filters": (16, 32, 64, 128),
    "block": "none",
    "augment": "random_shift_flip",
    "validation_augment": None,
}
_SYNTHETIC = "synthetic"

# Six known classes of ten, as published with ARPL (Chen et al. 2021,
# github.com/iCGY96/ARPL) and taken over by Vaze et al. 2022.
_SPLITS = {
    CIFAR10: (
        (0, 6, 4, 9, 1, 7),
        (7, 6, 4, 9, 0, 1),
        (1, 5, 7, 3, 9, 4),
        (8, 6, 1, 9, 0, 7),
        (2, 4, 1, 7, 9, 6),
    ),
    "mnist": (
        (2, 4, 5, 9, 8, 3),
        (3, 2, 6, 9, 4, 0),
        (5, 8, 3, 2, 4, 6),
        (3, 7, 8, 4, 0, 5),
        (6, 3, 4, 9, 8, 2),
    ),
}
_FLOWERS = ("daisy", "dandelion", "rose", "sunflower", "tulip")


def _choose(source: str, classes: Any) -> str:
    return f"{source}[{','.join(map(str, classes))}]"


def _split(source: str, number: int, recipe: recipes.Recipe) -> Known:
    known = _SPLITS[source][number]
    return Known(
        name=f"{source}_split_{number + 1}",
        spec=_choose(source, known),
        exposure=_SYNTHETIC,
        test_unknown=(_choose(source, sorted(set(range(10)) - set(known))),),
        recipe=recipe,
    )


def _develop() -> Known:
    """Six classes that no split has together, and no image that is tested elsewhere."""
    known = (0, 2, 4, 6, 8, 9)
    source = f"{CIFAR10}@training_images"
    return Known(
        name=DEVELOPMENT,
        spec=_choose(source, known),
        exposure=_SYNTHETIC,
        test_unknown=(_choose(source, sorted(set(range(10)) - set(known))),),
        # As many steps as of the splits.
        recipe=recipes.get("photos_scratch", **_PHOTOS, epochs=64),
    )


def _leave_out(flower: str) -> Known:
    return Known(
        name=f"flowers_without_{flower}",
        spec=_choose("flowers", [name for name in _FLOWERS if name != flower]),
        exposure=_SYNTHETIC,
        test_unknown=(_choose("flowers", [flower]),),
        recipe=recipes.get("photos_scratch", **_PHOTOS, epochs=60),
    )


_ALL_OF_CIFAR10 = Known(
    spec=CIFAR10,
    exposure=_SYNTHETIC,
    test_unknown=(NEAR, *FAR, *NOISE),
    recipe=recipes.get("photos_scratch", **_PHOTOS, epochs=25),
)
_CIFAR10_SPLITS = tuple(
    # As many steps as with ten classes.
    _split(CIFAR10, number, recipes.get("photos_scratch", **_PHOTOS, epochs=42))
    for number in range(5)
)
_MNIST_SPLITS = tuple(
    _split("mnist", number, recipes.get("robust", block="none")) for number in range(5)
)
_FLOWERS_LEFT_OUT = tuple(map(_leave_out, _FLOWERS))

_SCORES = {
    "msp": ("MSP", "the largest probability of a known class"),
    "energy": ("energy", "the logarithm of the sum over the logits' exponentials"),
    "knn": ("KNN", "distance to the k-th nearest features of known training images"),
    "vim": ("ViM", "what of the features lies outside their principal space"),
    "mahalanobis": (
        "Mahalanobis",
        "distance to class means; layers and step chosen on validation images",
    ),
    "nci": (
        "NCI",
        "how well features agree with the weights of their class, and length",
    ),
    "unknown_probability": ("P(unknown)", "the probability of the unknown class"),
    "probability_and_distances": (
        "P(unknown) and distances",
        "the mean of the unknown class's probability and of the distances of all "
        "layers, each standardised on known images",
    ),
}
_OF_KNOWN = ("msp", "energy", "knn", "vim", "mahalanobis", "nci")
_OF_UNKNOWN_CLASS = (
    *("unknown_probability", "msp", "energy", "knn", "nci"),
    "probability_and_distances",
)

# Each named trick of training, as changes of a recipe.
_TRICKS: dict[str, tuple[str, Json]] = {
    "logit_norm": ("LogitNorm", {"logit_temperature": 0.04}),
    "t2fnorm": ("T2FNorm", {"feature_temperature": 0.1}),
    "pixmix": ("PixMix", {"augment": "random_shift_flip+pixmix"}),
}


def _train(
    name: str,
    title: str,
    loss: str,
    tricks: tuple[str, ...] = (),
    *,
    description: str,
    **options: Any,
) -> Training:
    """A training with some of `_TRICKS`, which give it its name and title."""
    name = "_".join((name, *tricks))
    title = ", ".join((title, *(_TRICKS[trick][0] for trick in tricks)))
    changes: Json = {"loss": loss, **options.pop("changes", {})}
    for trick in tricks:
        changes |= _TRICKS[trick][1]
    shown = loss != "cross_entropy"
    return Training(
        name=name,
        description=description,
        exposure=(_SYNTHETIC,) if shown else (),
        changes=changes,
        methods=tuple(
            Method(
                name=f"{name}_{detector}",
                title=f"{title}: {_SCORES[detector][0]}",
                detector=detector,
                description=_SCORES[detector][1],
            )
            for detector in (_OF_UNKNOWN_CLASS if shown else _OF_KNOWN)
        ),
        **options,
    )


def _closed(*tricks: str) -> Training:
    return _train(
        CLOSED_SET,
        "Closed set",
        "cross_entropy",
        tricks,
        group="closed set",
        description="cross-entropy over the known classes, known images alone; the "
        "epoch with the best known validation accuracy is kept",
    )


def _unknown_class(*tricks: str) -> Training:
    return _train(
        "unknown_class",
        "Unknown class",
        "extra_class",
        tricks,
        group="unknown class",
        description="plain cross-entropy with one class more, shown synthetic outliers",
    )


def _ours(*tricks: str) -> Training:
    return _train(
        "ours",
        "Ours",
        "open_set",
        tricks,
        group="ours",
        changes={"block": "modified_se"},
        description="modified block, one class more, weighted cross-entropy with 1/N "
        "and objectosphere on the softmax, shown synthetic outliers",
    )


_TRAININGS = (
    _closed(),
    *(_closed(trick) for trick in _TRICKS),
    _closed("logit_norm", "pixmix"),
    _closed("t2fnorm", "pixmix"),
    _unknown_class(),
    _unknown_class("logit_norm"),
    _unknown_class("pixmix"),
    _unknown_class("logit_norm", "pixmix"),
    _ours(),
    _ours("logit_norm"),
    _ours("pixmix"),
    _ours("logit_norm", "pixmix"),
    # What the block and the time that it takes are worth without all else.
    _train(
        "closed_set_block",
        "Closed set, modified block",
        "cross_entropy",
        description="as the closed set, with the modified block",
        group="control",
        changes={"block": "modified_se"},
    ),
    _train(
        "closed_set_longer",
        "Closed set, twice the epochs",
        "cross_entropy",
        description="as the closed set, twice as many epochs: PixMix and the block "
        "make an epoch longer",
        group="control",
        times_epochs=2,
    ),
)
_FIRST = (
    CLOSED_SET,
    "unknown_class_logit_norm_pixmix",
    "ours",
    "ours_logit_norm_pixmix",
)
_ON_DIGITS = (CLOSED_SET, "unknown_class", "ours")
_EVERY = tuple(one.name for one in _TRAININGS)
# Of which one is chosen.
_OURS = tuple(one.name for one in _TRAININGS if one.group in ("unknown class", "ours"))


def _names(known: tuple[Known, ...]) -> tuple[str, ...]:
    return tuple(one.name for one in known)


COLOUR = Study(
    name="colour",
    known=(
        _develop(),
        _ALL_OF_CIFAR10,
        *_CIFAR10_SPLITS,
        *_MNIST_SPLITS,
        *_FLOWERS_LEFT_OUT,
    ),
    trainings=_TRAININGS,
    seeds=(0, 1, 2),
    # What says most comes first, what chooses before all.
    order=(
        (_FIRST, (CIFAR10,), (0,)),
        (_OURS, (DEVELOPMENT,), (0,)),
        (_ON_DIGITS, _names(_MNIST_SPLITS), (0,)),
        (_EVERY, (CIFAR10,), (0,)),
        (_FIRST, (CIFAR10,), (1, 2)),
        (_FIRST, _names(_CIFAR10_SPLITS), (0,)),
        (_FIRST, _names(_FLOWERS_LEFT_OUT), (0,)),
        (_EVERY, (CIFAR10,), (1, 2)),
    ),
    renderings="short",
    protocol={
        "network": "on photographs, recipe `photos_scratch` with four stages of 16, "
        "32, 64 and 128 channels, one residual unit each, 25 epochs of CIFAR-10, 42 "
        "of six classes of it, 64 where these choose, 60 of flowers; on digits, recipe "
        "`robust`, 12 epochs. Every training has as many epochs, but "
        "`closed_set_longer`, which has twice as many; what an epoch costs differs and "
        "is listed",
        "augmentation": "photographs are shifted and mirrored, PixMix comes on top; "
        "digits are in random renderings",
        "data": "18,298 of the first 20,000 training images of CIFAR-10, 1,663 to "
        "validate; 9,966 of its test images. CIFAR-100 without the two test images "
        "that are in CIFAR-10, too; MNIST as 32 x 32 pixels in three equal channels; "
        "flowers reduced to 32 x 32 pixels where CIFAR-10 is known, at 128 x 128 "
        "pixels where flowers are",
        "splits": "six known classes of ten as published with ARPL; of flowers, "
        "three fifths of the photographs to train, a fifth each to validate and test, "
        "and so of the training images of CIFAR-10 that choose",
        "unknown in training": "none, or synthetic outliers, a tenth as many an epoch "
        "as there are known images, of ten classes; noise is among them, and is then "
        "no unseen kind",
        "chosen": "epoch and numbers of detectors on validation images, of the "
        "unknown by synthetic outliers alone; on digits the training and score, too. "
        "The training and score that is asked about CIFAR-100, flowers and MNIST is "
        "the one with the highest AUROC between six and four classes of training "
        "images of CIFAR-10, none of which is a test image of anything else; NCI was "
        "added to the scores, and it was decided that these images choose and no "
        "longer the first split, when some results of that split were known",
        "renderings": "the strongest mild one of each kind of the suite of "
        "`evaluation.renderings`, of 500 images of each source; no training but the "
        "digits' was shown the suite's kinds, PixMix some of their sort. In the runs "
        "of cifar10_split_1 and of the closed set, seed 0, what a turn, zoom or shift "
        "uncovers is black on white ground, too; in all others it is white there",
        "threshold": "accepts 99 % of the known validation images",
        "test images": "nothing else is fitted to, tuned on or selected by any of them",
    },
)
