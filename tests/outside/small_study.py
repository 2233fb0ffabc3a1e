"""A study of somebody else's: one training with the Brier score, one without."""

import lookout  # noqa: F401  It registers what is named here.

from ood_keras import study, training

SHAPES = study.Known(
    spec="lookout/shapes",
    exposure="grey:3",
    test_unknown=("grey:3", "grey:9"),
    recipe=training.recipes.get(
        "demo",
        epochs=1,
        filters=(4, 4),
        hidden_size=8,
        feature_size=8,
        unknown_images=60,
        augment="random_mirror",
    ),
)

STUDY = study.Study(
    name="brier",
    known=(SHAPES,),
    trainings=(
        study.Training(
            name="brier",
            methods=(
                study.Method(
                    name="nearest_mean", title="Nearest mean", detector="nearest_mean"
                ),
                study.Method(name="brier", title="Brier", detector="msp"),
            ),
            changes={"loss": "brier"},
        ),
        study.Training(
            name="outlier_exposure",
            methods=(study.Method(name="oe", title="Exposure", detector="msp"),),
            changes={"loss": "outlier_exposure"},
        ),
    ),
)
