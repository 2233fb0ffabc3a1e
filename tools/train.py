"""Trains a classifier that knows what it does not know.

  ood-train --known=digits --unknown=synthetic --recipe=demo --run_dir=runs/digits
  ood-train --known=mnist --unknown=emnist/letters --data_dir=DIR --run_dir=runs/mnist

Known and unknown are data sources: mnist, fashion_mnist, emnist/letters, kmnist,
omniglot, notmnist, kannada_mnist, dig_mnist, cifar10, tfds:NAME, folder:PATH, idx:PATH,
npz:PATH, uniform_noise, gaussian_noise, synthetic (needs no unknown images), digits,
glyphs; mnist[0-4] takes some of the classes, mnist@negative another form. A run that
was stopped, even killed, goes on when the same command is given again and ends with the
same weights. Next: ood-evaluate.
"""

import json
import pathlib

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_KNOWN = flags.DEFINE_string(
    "known",
    None,
    "The source of the known classes.",
    required=True,
    flag_values=_FLAGS,
)
_UNKNOWN = flags.DEFINE_string(
    "unknown",
    None,
    "The sources of unknown images to train with, separated by commas; none for a "
    "recipe whose loss learns from known images alone.",
    flag_values=_FLAGS,
)
_RUN_DIR = flags.DEFINE_string(
    "run_dir",
    None,
    "The folder that receives everything; give the same one to resume.",
    required=True,
    flag_values=_FLAGS,
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The folder that holds the data sets.", flag_values=_FLAGS
)
app.define_memory(_FLAGS)
_IMAGE_SHAPE = flags.DEFINE_list(
    "image_shape",
    None,
    "HEIGHT,WIDTH,CHANNELS to convert all images to, with 1 or 3 channels, such as "
    "32,32,3; default: those of the known images, which then must have one size.",
    flag_values=_FLAGS,
)
_BACKGROUND = flags.DEFINE_string(
    "background",
    "white",
    "What transparent pixels of picture files are laid on: white, black, or a grey "
    "level from 0 to 255; kept with the run and the exported model.",
    flag_values=_FLAGS,
)
_RECIPE = flags.DEFINE_string(
    "recipe",
    None,
    "robust (drawings and characters) or robust_wide (things), which learn from images "
    "in random renderings: more blurred, thicker, turned, in other contrast; fast and "
    "wide, the same without renderings, in less time, for benchmarks whose test "
    "images are scanned alike; paper (section 3.6: 150 epochs); demo (seconds). "
    "For photographs: photos, on features of a --backbone, and photos_scratch, a small "
    "residual network from random weights. Default: photos with a --backbone, else "
    "robust or robust_wide, by what the known images look like.",
    flag_values=_FLAGS,
)
_OVERRIDE = flags.DEFINE_multi_string(
    "override",
    [],
    "A field of the recipe to change, such as epochs=2, filters=[16,32] or "
    "augment=none.",
    flag_values=_FLAGS,
)
_BACKBONE = flags.DEFINE_string(
    "backbone",
    None,
    "A network of keras.applications to begin with, such as MobileNetV2, "
    "EfficientNetV2B0 or MobileNetV2:alpha=0.35. It is frozen and what is on top of it "
    "trains on its features, which are computed once; --override=fine_tune_epochs=5 "
    "then trains all of it in the last epochs.",
    flag_values=_FLAGS,
)
_BACKBONE_WEIGHTS = flags.DEFINE_string(
    "backbone_weights",
    None,
    "Weights of the backbone: imagenet, which are downloaded once (the default); a "
    ".weights.h5, .h5 or .keras file; or none for random ones.",
    flag_values=_FLAGS,
)
_MIXED_PRECISION = flags.DEFINE_enum(
    "mixed_precision",
    None,
    ["bfloat16", "float16", "none"],
    "What the network computes in while it trains: faster on GPUs made for it. Weights "
    "and losses stay float32, and so does all that is measured and exported. Kept with "
    "the run.",
    flag_values=_FLAGS,
)
_CLASS_WEIGHT = flags.DEFINE_string(
    "class_weight",
    None,
    "balanced, so that classes of few images count as much as others; or weights of "
    "classes in the loss by name, as in rose=2,tulip=0.5, the others being 1.",
    flag_values=_FLAGS,
)
_SKIP_BAD = flags.DEFINE_bool(
    "skip_bad",
    False,
    "Of folders of pictures, leave out files that would spoil the result, and count "
    "them in run.json and the report: those that cannot be read, and copies of one "
    "picture under several labels, in several splits, or known and unknown. Without "
    "it, training stops at them and names them all. See ood-data.",
    flag_values=_FLAGS,
)
_GROUP_BY = flags.DEFINE_multi_string(
    "group_by",
    None,
    "What makes pictures of a folder belong together, so that all of them are in one "
    "split: copies, equal or nearly equal pictures (the default); folder, folders of "
    "one name within the class folders; or a regular expression with one group, such "
    "as 'patient(\\d+)_', whose text their names share. May be given several times. "
    "none deals pictures out one by one. Ignored for folders that have train, "
    "validation and test.",
    flag_values=_FLAGS,
)
_SEED = flags.DEFINE_integer("seed", 0, "Decides everything.", flag_values=_FLAGS)


def _train(positional: list[str]) -> None:
    if positional:
        raise ValueError(f"ood-train takes flags only; received: {positional}")
    app.load("workflows.training").train(
        known=_KNOWN.value,
        unknown=app.split_specs(_UNKNOWN.value),
        run_dir=_RUN_DIR.value,
        data_dir=_DATA_DIR.value,
        image_shape=_IMAGE_SHAPE.value,
        background=_BACKGROUND.value,
        recipe=_RECIPE.value,
        overrides=_OVERRIDE.value,
        backbone=_BACKBONE.value,
        backbone_weights=_BACKBONE_WEIGHTS.value,
        mixed_precision=_MIXED_PRECISION.value,
        class_weight=_read_class_weight(_CLASS_WEIGHT.value),
        seed=_SEED.value,
        skip_bad=_SKIP_BAD.value,
        group_by=_GROUP_BY.value,
    )
    verdict = pathlib.Path(_RUN_DIR.value) / "training_verdict.json"
    if verdict.is_file():
        text = verdict.read_text(encoding="utf-8")
        print(f"\n{app.load('evaluation.verdict').format_json(json.loads(text))}")
    print(
        f"\nDone. Next:\n  ood-evaluate{app.repeat_plugins(_FLAGS)} "
        f"--run_dir={_RUN_DIR.value} --unknown=SOURCES"
    )


def _read_class_weight(text: str | None) -> dict[str, float] | str | None:
    """Reads "rose=2,tulip=0.5"."""
    if text is None or text == "balanced":
        return text
    weights = {}
    for part in text.split(","):
        name, _, weight = part.rpartition("=")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            raise ValueError(
                "--class_weight is balanced, or weights of classes by name, such as "
                f"rose=2,tulip=0.5. Received: {text!r}"
            ) from None
    return weights


def main() -> None:
    """The command `ood-train`."""
    app.run("ood-train", __doc__, _FLAGS, _train)


if __name__ == "__main__":
    main()
